// npm's oidc-provider as an authorization server on loopback. Its store is in memory.
//
// The first line of its standard input is JSON: resource (its access tokens are JWTs), and clients, each with
// oidc-provider's own metadata and lifetime_s. Prints its port when it listens, logs a line `METHOD /path`
// for each request, and ends when its standard input closes.
//
// A person signs in and consents on oidc-provider's development pages. At /account/{client_id} they withdraw the
// consent. Each renewal gives a new refresh token.
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
    devInteractions: { enabled: true },
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
  rotateRefreshToken: () => true,
};

const ACCOUNT = '/account/';
async function account(ctx, next) {
  if (!ctx.path.startsWith(ACCOUNT)) return next();
  const clientId = ctx.path.slice(ACCOUNT.length);
  const { Session, Grant } = ctx.app;
  const session = await Session.get(ctx);
  const grant = await Grant.find(session.grantIdFor(clientId));
  ctx.type = 'html';
  if (ctx.method === 'POST' && grant !== undefined) {
    await grant.destroy();
    await session.destroy();
    ctx.body = '<p>Withdrawn</p>';
  } else {
    ctx.body = '<form method="post"><button>Withdraw consent</button></form>';
  }
}

// It must listen before its address is known, which the issuer's name holds.
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  server.on('request', ({ method, url }) => console.error(`${method} ${url.split('?')[0]}`));
  const provider = new Provider(`http://127.0.0.1:${port}`, configuration);
  provider.use(account);
  server.on('request', provider.callback());
  console.log(port);
});
