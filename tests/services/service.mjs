// A service in Node.js, like service.py: node service.mjs PROVIDER CONNECTION URL SECONDS
import { setTimeout } from "node:timers/promises";

import { TokenBroker } from "../../layers/client_node/token-broker.mjs";

const [provider, name, url, seconds] = process.argv.slice(2);
const connection = new TokenBroker().connection(provider, name);
const endAt = performance.now() + seconds * 1000;
while (performance.now() < endAt) {
  const started = performance.now();
  const result = await connection.fetch(url).then(
    async (response) => {
      await response.text();
      return response.status;
    },
    (error) => `${error.name}: ${error.message}`,
  );
  console.log(`${((performance.now() - started) / 1000).toFixed(3)} ${result}`);
  await setTimeout(100);
}
