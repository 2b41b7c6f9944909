// A service: calls the provider's API from many places at once, then again after the provider revoked its token.
import { TokenBroker } from "../../layers/client_node/token-broker.mjs";

const [provider, name, resource, control] = process.argv.slice(2);
const connection = new TokenBroker().connection(provider, name);
const calls = async () => Promise.all(Array.from({ length: 20 }, async () => {
  const response = await connection.fetch(resource);
  await response.text();
  return response.status;
}));

const before = await calls();
const first = await connection.token();
await fetch(control, { method: "POST", body: JSON.stringify({ revoke_all: true }) });
const after = await calls();
const second = await connection.token();
let error;
try {
  await new TokenBroker().connection(provider, "nobodys").token();
} catch ({ code, status }) {
  error = { code, status };
}
process.stdout.write(JSON.stringify({ before, after, first, second, error }));
