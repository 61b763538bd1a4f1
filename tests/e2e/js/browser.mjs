// A page in a real Chromium speaks MQTT over WebSocket: `browser.mjs URL ORIGIN_HOST EXPECT`. EXPECT is `works` or `refused`.
//
// The page is served on ORIGIN_HOST by this script, so that the browser sends that Origin. BREAKWATER_SPKI names the hash of
// the broker's public key for wss.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [url, originHost, expected] = process.argv.slice(2);
const here = new URL('.', import.meta.url);
const files = {
    '/': ['text/html', readFileSync(new URL('page.html', here))],
    '/mqtt.min.js': ['text/javascript', readFileSync(new URL('../node_modules/mqtt/dist/mqtt.min.js', here))],
};
const server = createServer((request, response) => {
    const [type, body] = files[request.url] ?? ['text/plain', 'nothing here'];
    response.writeHead(files[request.url] ? 200 : 404, { 'content-type': type });
    response.end(body);
});
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });

const flags = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', `--host-resolver-rules=MAP ${originHost} 127.0.0.1`,
];
if (process.env.BREAKWATER_SPKI) flags.push(`--ignore-certificate-errors-spki-list=${process.env.BREAKWATER_SPKI}`);
const profile = mkdtempSync(join(tmpdir(), 'breakwater-page-'));
const browser = await chromium.launchPersistentContext(profile, { executablePath: '/usr/bin/chromium', args: flags });
try {
    const page = await browser.newPage();
    await page.goto(`http://${originHost}:${server.address().port}/`);
    for (const version of [4, 5]) {
        const outcome = await page
            .evaluate(([target, level]) => window.roundTrip(target, level), [url, version])
            .catch((fault) => `refused: ${fault.message}`);
        if (expected === 'works') assert.equal(outcome, 'page/hello it works');
        else assert.match(outcome, /^refused/);
    }
} finally {
    await browser.close();
    server.close();
    rmSync(profile, { recursive: true, force: true });
}
