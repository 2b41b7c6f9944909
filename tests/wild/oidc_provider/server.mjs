// npm's oidc-provider as an authorization server on loopback. Its store is in memory.
//
// The first line of its standard input is JSON: resource (its access tokens are JWTs), and clients, each with
// oidc-provider's own metadata and lifetime_s. Prints its port when it listens, logs a line `METHOD /path`
// for each request, and ends when its standard input closes.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

// The packages are in another place than this file.
const { resolve } = createRequire(`${process.env.OIDC_PROVIDER_HOME}/`);
const { Provider, errors } = await import(pathToFileURL(resolve('oidc-provider')));

const input = createInterface({ input: process.stdin });
const { resource, clients } = JSON.parse(await new Promise((read) => input.once('line', read)));
input.once('close', () => process.exit());

const lifetime = (_ctx, _token, client) => client.lifetime_s;
const configuration = {
  clients,
  extraClientMetadata: { properties: ['lifetime_s'] },
  scopes: ['openid', 'offline_access', 'read', 'write'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_ctx, indicator) {
        if (indicator !== resource) throw new errors.InvalidTarget();
        return { scope: 'read write', accessTokenFormat: 'jwt' };
      },
    },
  },
  ttl: { AccessToken: lifetime, ClientCredentials: lifetime },
};

// It must listen before its address is known, which the issuer's name holds.
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  server.on('request', ({ method, url }) => console.error(`${method} ${url.split('?')[0]}`));
  server.on('request', new Provider(`http://127.0.0.1:${port}`, configuration).callback());
  console.log(port);
});
