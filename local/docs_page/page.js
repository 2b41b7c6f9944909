// The documentation page of the local stack: Swagger UI. It signs its requests as an AWS SDK does.
// The key is valid on this stack only.

const SERVICE = "execute-api";
const text = new TextEncoder();

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (message) => hex(await crypto.subtle.digest("SHA-256", text.encode(message)));

async function hmac(key, message) {
  const usage = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key, usage, false, ["sign"]);
  return crypto.subtle.sign("HMAC", imported, text.encode(message));
}

// RFC 3986: encodeURIComponent leaves five characters that must be encoded for the signature.
const encoded = (part) =>
  encodeURIComponent(part).replace(/[!'()*]/g, (found) => "%" + found.charCodeAt(0).toString(16).toUpperCase());

// Adds an AWS Signature Version 4 to a request, and sorts its query as the signature requires.
async function sign(request, { accessKey, secretKey, region }) {
  const url = new URL(request.url, location.href);
  const moment = new Date().toISOString().replace(/[:-]|\.\d{3}/g, "");
  const scope = `${moment.slice(0, 8)}/${region}/${SERVICE}/aws4_request`;
  const query = [...url.searchParams]
    .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
    .sort()
    .join("&");
  const path = url.pathname.split("/").map(encoded).join("/");
  const headers = `host:${url.host}\nx-amz-date:${moment}\n`;
  const body = await sha256(request.body ?? "");
  const canonical = [request.method.toUpperCase(), path, query, headers, "host;x-amz-date", body].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", moment, scope, await sha256(canonical)].join("\n");
  let key = text.encode("AWS4" + secretKey);
  for (const part of scope.split("/")) key = await hmac(key, part);
  const signature = hex(await hmac(key, toSign));
  request.url = url.origin + url.pathname + (query && "?" + query);
  request.headers["X-Amz-Date"] = moment;
  request.headers.Authorization =
    `AWS4-HMAC-SHA256 Credential=${accessKey}/${scope}, SignedHeaders=host;x-amz-date, Signature=${signature}`;
  return request;
}

const { signAs } = await (await fetch("/docs/settings.json")).json();

SwaggerUIBundle({
  url: "/docs/document.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  requestInterceptor: (request) => (signAs === null || request.loadSpec ? request : sign(request, signAs)),
});
