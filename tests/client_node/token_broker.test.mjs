// The module over a fake broker with a clock of its own: no network, no waiting.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { test } from "node:test";
import { inspect } from "node:util";

import {
  BrokerRefused, BrokerUnreachable, ClientNotConfigured, Token, TokenBroker, TokenBrokerError, signature,
} from "../../layers/client_node/token-broker.mjs";

/** Issues tokens "fake-1", "fake-2", … and replaces a reported one. Time moves only by `advance` and pauses. */
class FakeBroker {
  now = 1_800_000_000;
  asked = [];
  planned = []; // errors of the next requests; a function makes each
  lines = [];
  issued = 0;

  constructor(lifetimeS = 3600) {
    this.lifetimeS = lifetimeS;
    this.broker = new TokenBroker({
      get: async (path, query) => this.respond(path, Object.fromEntries(query)),
      clock: () => this.now,
      sleep: async (seconds) => this.advance(seconds),
      log: (line) => this.lines.push(line),
    });
    this.unidy = this.broker.connection("unidy", "eu-main");
  }

  advance(seconds) {
    this.now += seconds;
  }

  fail(times, status, code, retryAfter) {
    const problem = { code, detail: "set by the test" };
    const error = () => (code ? new BrokerRefused(status, problem, retryAfter) : new BrokerUnreachable("no response"));
    for (let number = 0; number < times; number += 1) this.planned.push(error);
  }

  respond(path, query) {
    this.asked.push({ path, ...query });
    const error = this.planned.shift();
    if (error) throw error();
    const current = this.current;
    const renewAt = () => this.current.expiresAt - Math.min(this.lifetimeS / 2, 900);
    let source = "memory";
    if (!current || tokenId(current.token) === query.rejected || this.now >= renewAt()) {
      this.issued += 1;
      source = "provider";
      this.current = { token: `fake-${this.issued}`, expiresAt: this.now + this.lifetimeS };
    }
    const { token, expiresAt } = this.current;
    return {
      access_token: token, token_type: "Bearer", expires_in: expiresAt - this.now,
      expires_at: new Date(expiresAt * 1000).toISOString(), renew_at: new Date(renewAt() * 1000).toISOString(),
      expires_assumed: false, scope: "", token_id: tokenId(token), provider: "unidy", connection: "eu-main",
      headers: { Authorization: `Bearer ${token}` }, api_base_url: null, source, warnings: [],
    };
  }
}

const tokenId = (token) => createHash("sha256").update(token).digest("hex").slice(0, 16);
const text = async (connection) => (await connection.token()).accessToken;

test("a token is kept for five minutes at most", async () => {
  const fake = new FakeBroker();
  const first = await fake.unidy.token();
  fake.advance(299);
  assert.equal(await fake.unidy.token(), first);
  fake.advance(2);
  assert.equal((await fake.unidy.token()).tokenId, first.tokenId);
  assert.equal(fake.asked.length, 2);
});

test("a token is requested again at renewAt, and while min_ttl holds", async () => {
  const fake = new FakeBroker(300);
  await fake.unidy.token();
  fake.advance(151);
  assert.equal(await text(fake.unidy), "fake-2");
  const long = fake.broker.connection("unidy", "eu-main", { scope: "a b", minTtl: 290 });
  await long.token();
  fake.advance(9);
  await long.token();
  assert.equal(fake.asked.length, 3);
  assert.deepEqual(fake.asked[2], { path: "/v1/tokens/unidy/eu-main", scope: "a b", min_ttl: 290 });
  fake.advance(5);
  await long.token();
  assert.equal(fake.asked.length, 4);
});

test("many callers make one request", async () => {
  const fake = new FakeBroker();
  const tokens = await Promise.all(Array.from({ length: 100 }, () => fake.unidy.token()));
  assert.equal(new Set(tokens).size, 1);
  assert.equal(fake.asked.length, 1);
});

test("callers that wait for one request share its failure, and the next one asks anew", async () => {
  const fake = new FakeBroker();
  fake.fail(1, 502, "provider_refused");
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => fake.unidy.token()));
  assert.deepEqual(new Set(results.map(({ reason }) => reason.code)), new Set(["provider_refused"]));
  assert.equal(fake.asked.length, 1);
  assert.equal(await text(fake.unidy), "fake-1");
});

test("nobody but the first waits for the successor of a valid token", async () => {
  const fake = new FakeBroker();
  await fake.unidy.token();
  fake.advance(2800);
  const [first, second] = await Promise.all([text(fake.unidy), text(fake.unidy)]);
  assert.deepEqual([first, second, await text(fake.unidy)], ["fake-2", "fake-1", "fake-2"]);
  assert.equal(fake.asked.length, 2);
});

for (const [status, code] of [[503, "broker_unavailable"], [503, "provider_unavailable"], [500, "internal_error"], [0]]) {
  test(`while the broker fails (${code ?? "no response"}), a token is used until it expires`, async () => {
    const fake = new FakeBroker();
    const first = await fake.unidy.token();
    fake.fail(10_000, status, code);
    fake.advance(3500);
    const before = fake.now;
    assert.equal(await fake.unidy.token(), first);
    assert.equal(await fake.unidy.token(), first);
    assert.equal(fake.now, before, "without a pause");
    assert.equal(fake.asked.length, code ? 2 : 3);
    assert.equal(fake.lines.length, 1, "one line for the incident");
    assert.ok(!fake.lines[0].includes(first.accessToken));
    fake.advance(101);
    await assert.rejects(fake.unidy.token(), TokenBrokerError);
  });
}

test("a caller that is denied does not get the kept token", async () => {
  const fake = new FakeBroker();
  await fake.unidy.token();
  fake.advance(301);
  fake.fail(2, 409, "connection_suspended");
  for (let times = 0; times < 2; times += 1) await assert.rejects(fake.unidy.token(), { code: "connection_suspended" });
  assert.equal(fake.lines.length, 0);
});

test("Retry-After is obeyed, but not beyond the deadline", async () => {
  const fake = new FakeBroker();
  fake.fail(2, 503, "acquisition_in_progress", 2);
  const began = fake.now;
  await fake.unidy.token();
  assert.equal(fake.now - began, 4);
  fake.fail(1, 503, "provider_rate_limited", 60);
  await assert.rejects(fake.broker.connection("unidy", "other").token(), { retryAfter: 60 });
  assert.equal(fake.now - began, 4);
});

test("a broker that has never responded is tried for five seconds, any other until the deadline", async () => {
  const fake = new FakeBroker();
  fake.fail(10_000, 0);
  let began = fake.now;
  await assert.rejects(fake.unidy.token(), BrokerUnreachable);
  assert.ok(fake.now - began <= 5);
  fake.planned = [];
  await fake.unidy.token();
  fake.fail(10_000, 0);
  began = fake.now;
  await assert.rejects(fake.broker.connection("unidy", "other").token(), BrokerUnreachable);
  assert.ok(fake.now - began > 20 && fake.now - began <= 30);
});

test("a rejected token is reported once for many callers, and replaced for all", async () => {
  const fake = new FakeBroker();
  const rejected = await fake.unidy.token();
  const others = await Promise.all(Array.from({ length: 20 }, () => fake.unidy.replacement(rejected)));
  assert.deepEqual(new Set(others.map((other) => other.accessToken)), new Set(["fake-2"]));
  assert.equal(fake.asked.filter(({ rejected: id }) => id).length, 1);
});

test("a second revocation within seconds recovers", async () => {
  const fake = new FakeBroker();
  const first = await fake.unidy.token();
  const second = await fake.unidy.replacement(first);
  fake.advance(2);
  assert.equal((await fake.unidy.replacement(second)).accessToken, "fake-3");
});

test("a report that fails is not repeated for a while", async () => {
  const fake = new FakeBroker();
  const rejected = await fake.unidy.token();
  fake.fail(2, 429, "too_many_rejections", 20);
  assert.equal(await fake.unidy.replacement(rejected), null);
  assert.equal(await fake.unidy.replacement(rejected), null);
  assert.equal(fake.asked.length, 2);
  assert.equal(await fake.unidy.token(), rejected);
  fake.advance(21);
  assert.equal(await fake.unidy.replacement(rejected), null);
  assert.equal(fake.asked.length, 3);
  assert.equal(fake.lines.length, 1);
});

test("an outage is one line in the log, and the next one another", async () => {
  const fake = new FakeBroker(10 ** 6);
  for (const outage of [1, 2]) {
    await fake.unidy.token();
    fake.fail(1000, 503, "broker_unavailable");
    fake.advance(301);
    for (let times = 0; times < 50; times += 1) {
      await fake.unidy.token();
      fake.advance(6);
    }
    assert.equal(fake.lines.length, outage);
    fake.planned = [];
    fake.advance(3600);
  }
});

test("a token prints without its secret parts", async () => {
  const token = await new FakeBroker().unidy.token();
  for (const printed of [inspect(token, { showHidden: true, depth: 9 }), JSON.stringify(token), String(token)]) {
    assert.ok(!printed.includes("fake-1"), printed);
  }
  assert.ok(inspect(token).includes(token.tokenId));
});

for (const wrong of [{ headers: { "X-Key": "fake\r\nHost: evil" } }, { headers: null }, { expires_in: "soon" }, { token_id: 1 }]) {
  test(`a response that is not a token is an error that repeats nothing of it: ${Object.keys(wrong)}`, async () => {
    const fake = new FakeBroker();
    const broker = new TokenBroker({ get: async (path) => ({ ...fake.respond(path, {}), ...wrong }) });
    const error = await broker.connection("unidy", "eu-main").token().catch((reason) => reason);
    assert.ok(error instanceof BrokerRefused);
    assert.equal(error.code, "unknown");
    assert.ok(!inspect(error).includes("fake"));
  });
}

for (const url of ["http://broker.example", "https://user:x@broker.example", "https://broker.example?x=1", "broker"]) {
  test(`a URL that would send tokens unencrypted or is not one is refused: ${url}`, () => {
    assert.throws(() => new TokenBroker({ url }), ClientNotConfigured);
  });
}

const CREDENTIALS = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "invented" };
for (const [what, options, said] of [
  ["URL", { url: "" }, /no URL/],
  ["credentials", { url: "http://127.0.0.1:9", region: "eu-west-1", credentials: () => ({}) }, /no AWS credentials/],
  ["region", { url: "http://127.0.0.1:9", credentials: CREDENTIALS }, /no region/],
  ["header", { url: "http://127.0.0.1:9", region: "x", credentials: { ...CREDENTIALS, sessionToken: "secret\n" } }, /hold a character/],
]) {
  test(`a missing or wrong ${what} is reported before anything is sent`, async () => {
    const error = await new TokenBroker(options).connection("unidy", "eu-main").token().catch((reason) => reason);
    assert.ok(error instanceof ClientNotConfigured, inspect(error));
    assert.match(error.message, said);
    assert.ok(!inspect(error).includes("secret\n"));
  });
}

test("signatures are botocore's", { skip: !process.env.VECTORS }, () => {
  const vectors = JSON.parse(readFileSync(process.env.VECTORS, "utf8"));
  assert.ok(vectors.length > 5);
  for (const { url, credentials, region, now, headers } of vectors) {
    assert.deepEqual(signature(new URL(url), credentials, region, new Date(now)), headers, url);
  }
});

/** A provider's API on loopback that accepts the tokens in `accepted`, and keeps the requests. */
async function withApi(run) {
  const api = { accepted: new Set(["fake-1"]), requests: [], headers: {} };
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (block) => (body += block));
    request.on("end", () => {
      const token = request.headers.authorization?.replace("Bearer ", "");
      api.requests.push({ token, body, method: request.method, path: request.url });
      if (request.url === "/away") response.writeHead(302, { Location: api.elsewhere });
      else response.writeHead(api.accepted.has(token) ? 200 : 401, api.headers);
      response.end("body");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  api.url = `http://127.0.0.1:${server.address().port}`;
  api.elsewhere = `${api.url}/elsewhere`;
  try {
    await run(api);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("fetch sends the token, and after a 401 the request once more with another token", () => withApi(async (api) => {
  const fake = new FakeBroker();
  assert.equal((await fake.unidy.fetch(`${api.url}/users`)).status, 200);
  api.accepted = new Set(["fake-2"]);
  const init = { method: "POST", body: "content", headers: { "X-Own": "1" } };
  assert.equal((await fake.unidy.fetch(`${api.url}/users`, init)).status, 200);
  assert.deepEqual(api.requests.map(({ token, body }) => [token, body]), [["fake-1", ""], ["fake-1", "content"], ["fake-2", "content"]]);
  assert.equal(fake.asked.length, 2);
}));

test("an API that rejects every token is asked twice, and gives its own 401", () => withApi(async (api) => {
  const fake = new FakeBroker();
  api.accepted = new Set();
  const response = await fake.unidy.fetch(api.url);
  assert.deepEqual([response.status, await response.text(), api.requests.length], [401, "body", 2]);
}));

test("a revoked token that the broker had already is reported too", () => withApi(async (api) => {
  const fake = new FakeBroker();
  const { tokenId: rejected } = await fake.unidy.token();
  fake.respond("", { rejected }); // another service's report
  api.accepted = new Set(["fake-3"]);
  assert.equal((await fake.unidy.fetch(api.url)).status, 200);
  assert.deepEqual(api.requests.map(({ token }) => token), ["fake-1", "fake-2", "fake-3"]);
}));

test("a body that is a stream is sent once", () => withApi(async (api) => {
  const fake = new FakeBroker();
  api.accepted = new Set(["fake-2"]);
  const init = { method: "POST", body: new Blob(["content"]).stream(), duplex: "half" };
  assert.equal((await fake.unidy.fetch(api.url, init)).status, 401);
  assert.equal(api.requests.length, 1);
  assert.equal((await fake.unidy.fetch(api.url)).status, 200, "the token was reported all the same");
}));

test("a 401 that names another reason is no rejected token, and isRejected replaces the rule", () => withApi(async (api) => {
  const fake = new FakeBroker();
  api.accepted = new Set();
  api.headers = { "WWW-Authenticate": 'Bearer error="insufficient_scope"' };
  await fake.unidy.fetch(api.url);
  assert.equal(fake.asked.length, 1);
  const own = fake.broker.connection("unidy", "eu-main", { isRejected: async (response) => (await response.clone().text()) === "body" });
  await own.fetch(api.url);
  assert.equal(fake.asked.at(-1).rejected, tokenId("fake-1"));
}));

test("a redirect is not followed", () => withApi(async (api) => {
  const fake = new FakeBroker();
  assert.equal((await fake.unidy.fetch(`${api.url}/away`)).status, 302);
  assert.deepEqual(api.requests.map(({ path }) => path), ["/away"]);
  await assert.rejects(fake.unidy.fetch(api.url, { redirect: "follow" }), TypeError);
}));

test("errors are classes that can be told apart", () => {
  const error = new BrokerRefused(503, { code: "provider_unavailable", detail: "down" }, 5);
  assert.deepEqual([error.name, error.message, error.isTemporary, error.isFinal], ["BrokerRefused", "503 provider_unavailable: down", true, false]);
  assert.ok(new BrokerRefused(404, {}).isFinal);
  assert.throws(() => new Token({ headers: {} }), TypeError);
});
