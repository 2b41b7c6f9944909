"""KMS's Sign as AWS does it. moto hashes a DIGEST once more, and its salt of RSASSA-PSS is longer than AWS's."""

import base64
import json
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.responses import KmsResponse

SHA256: Final = hashes.SHA256()
PADDINGS: Final = {
    "RSASSA_PKCS1_V1_5_SHA_256": padding.PKCS1v15(),
    "RSASSA_PSS_SHA_256": padding.PSS(padding.MGF1(SHA256), padding.PSS.DIGEST_LENGTH),
}
_moto_sign = KmsResponse.sign


def sign_as_aws() -> None:
    """Corrects moto in this process."""
    KmsResponse.sign = _sign  # type: ignore[method-assign]  # moto has no way to give it another


def _sign(self: Any) -> str:
    """moto checks the request and finds the key. Its signature of a SHA-256 digest is replaced."""
    response: dict[str, Any] = json.loads(_moto_sign(self))
    algorithm = response["SigningAlgorithm"]
    if self._get_param("MessageType") == "DIGEST" and algorithm.endswith("SHA_256"):
        key = self.kms_backend.describe_key(self._get_param("KeyId")).private_key.private_key
        digest = self._get_param("Message")
        prehashed = Prehashed(SHA256)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            signature = key.sign(digest, ec.ECDSA(prehashed))
        else:
            signature = key.sign(digest, PADDINGS[algorithm], prehashed)
        response["Signature"] = base64.b64encode(signature).decode()
    return json.dumps(response)
