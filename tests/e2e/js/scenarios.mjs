// Scenarios with MQTT.js: `scenarios.mjs URL VERSION SCENARIO`. Ends with code 0 if all is as it should be.
//
// The URL says how: tcp://, tls://, ws:// or wss://, with host and port. For tls and wss the environment names the authority
// that signed the broker's certificate (BREAKWATER_CA).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import mqtt from 'mqtt';

const [url, version, scenario] = process.argv.slice(2);
const path = url.startsWith('ws') ? '/mqtt' : '';
const ca = /^(tls|wss):/.test(url) ? readFileSync(process.env.BREAKWATER_CA) : undefined;
const protocolVersion = { '3.1.1': 4, 5: 5 }[version];
// For everything that is waited for: far beyond what a slow and busy machine needs.
const DEADLINE_MS = 60_000;

/** A client; what arrives waits in a queue. */
class Client {
    messages = [];
    wake = () => {};

    static async connect({ clientId, session = false, will } = {}) {
        const client = new Client();
        const properties = protocolVersion === 5 ? { sessionExpiryInterval: session ? 600 : 0 } : undefined;
        client.mqtt = mqtt.connect(url + path, {
            ca, protocolVersion, clientId, properties, clean: !session, reconnectPeriod: 0, resubscribe: false,
            connectTimeout: DEADLINE_MS, will: will && { topic: will, payload: Buffer.from('died'), qos: 1, retain: false },
        });
        client.mqtt.on('message', (topic, payload, packet) => {
            client.messages.push({ topic, payload, qos: packet.qos, retain: packet.retain, packet });
            client.wake();
        });
        const [connack] = await once(client.mqtt, 'connect');
        client.sessionPresent = connack.sessionPresent;
        return client;
    }

    async subscribe(topic, qos) {
        const granted = await this.mqtt.subscribeAsync(topic, { qos });
        assert.deepEqual(granted.map((one) => one.qos), [qos]);
    }

    publish(topic, payload, qos, options = {}) {
        return this.mqtt.publishAsync(topic, payload, { qos, ...options });
    }

    async next() {
        while (this.messages.length === 0) await new Promise((resolve) => { this.wake = resolve; });
        return this.messages.shift();
    }

    async expect(topic, payload, qos, retain = false) {
        const found = await this.next();
        assert.deepEqual([found.topic, found.qos, found.retain], [topic, qos, retain]);
        assert.ok(found.payload.equals(Buffer.from(payload)), `payload of ${topic}`);
        return found.packet;
    }

    leave() {
        return this.mqtt.endAsync();
    }
}

/** Connects so many clients at once. */
const many = (count) => Promise.all(Array.from({ length: count }, () => Client.connect()));

const scenarios = {
    async qos() {
        const [subscriber, publisher] = await many(2);
        await subscriber.subscribe('qos/+', 2);
        for (const qos of [0, 1, 2]) {
            for (let number = 0; number < 100; number += 1) publisher.publish(`qos/${qos}`, `${number}`, qos);
            for (let number = 0; number < 100; number += 1) await subscriber.expect(`qos/${qos}`, `${number}`, qos);
        }
        if (protocolVersion === 5) {
            const userProperties = { b: ['2', '3'], a: '1' };
            const correlationData = Buffer.from([0, 255]);
            const properties = { userProperties, correlationData, contentType: 'text/plain', responseTopic: 're' };
            await publisher.publish('qos/5', 'x', 1, { properties });
            const got = (await subscriber.expect('qos/5', 'x', 1)).properties;
            assert.deepEqual({ ...got, userProperties: { ...got.userProperties } }, properties);
        }
    },

    async retained() {
        const publisher = await Client.connect();
        await publisher.publish('kept/a', 'old', 1, { retain: true });
        await publisher.publish('kept/a', 'new', 2, { retain: true });
        await publisher.publish('kept/gone', 'old', 1, { retain: true });
        await publisher.publish('kept/gone', '', 1, { retain: true });
        const subscriber = await Client.connect();
        await subscriber.subscribe('kept/#', 2);
        await subscriber.expect('kept/a', 'new', 2, true);
        await publisher.publish('kept/live', 'now', 1, { retain: true });
        await subscriber.expect('kept/live', 'now', 1);
    },

    async will() {
        const watcher = await Client.connect();
        await watcher.subscribe('wills', 1);
        const holder = spawn(process.execPath, [fileURLToPath(import.meta.url), url, version, 'holdWill']);
        await once(holder.stdout, 'data');
        holder.kill('SIGKILL');
        await watcher.expect('wills', 'died', 1);
        // One that says good-bye leaves none.
        await (await Client.connect({ will: 'wills' })).leave();
        await (await Client.connect()).publish('wills', 'end', 1);
        await watcher.expect('wills', 'end', 1);
    },

    async holdWill() {
        await Client.connect({ will: 'wills' });
        console.log('connected');
        await new Promise(() => {});
    },

    async shared() {
        const [publisher, everything, ...members] = await many(5);
        for (const member of members) await member.subscribe('$share/group/work', 1);
        await everything.subscribe('work', 1);
        for (let number = 0; number < 60; number += 1) publisher.publish('work', `${number}`, 1);
        for (let number = 0; number < 60; number += 1) await everything.expect('work', `${number}`, 1);
        // One publisher: then taking turns is exact.
        const got = [];
        for (const member of members) {
            for (let number = 0; number < 20; number += 1) got.push(Number((await member.next()).payload));
            assert.equal(member.messages.length, 0);
        }
        assert.deepEqual(got.sort((a, b) => a - b), Array.from({ length: 60 }, (_, number) => number));
    },

    async resume() {
        let sleeper = await Client.connect({ clientId: 'sleeper', session: true });
        assert.equal(sleeper.sessionPresent, false);
        await sleeper.subscribe('queue/#', 2);
        await sleeper.leave();
        const publisher = await Client.connect();
        for (const qos of [1, 2]) {
            for (let number = 0; number < 200; number += 1) await publisher.publish(`queue/${qos}`, `${number}`, qos);
        }
        sleeper = await Client.connect({ clientId: 'sleeper', session: true });
        assert.equal(sleeper.sessionPresent, true);
        for (const qos of [1, 2]) {
            for (let number = 0; number < 200; number += 1) {
                await sleeper.expect(`queue/${qos}`, `${number}`, qos);
            }
        }
        await sleeper.leave();
        assert.equal((await Client.connect({ clientId: 'sleeper' })).sessionPresent, false);
    },

    async large() {
        const payload = Buffer.alloc(256 * 1024, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
        const [subscriber, publisher] = await many(2);
        await subscriber.subscribe('large', 2);
        for (const qos of [0, 1, 2]) {
            await publisher.publish('large', payload, qos);
            await subscriber.expect('large', payload, qos);
        }
    },

    async crowd() {
        const size = 1000;
        const clients = await many(size);
        await Promise.all(clients.map((client, number) => client.subscribe(`to/${number}`, 1)));
        await Promise.all(clients.map((client) => client.subscribe('all', 1)));
        const sent = clients.map((client, number) => client.publish(`to/${(number + 1) % size}`, `${number}`, 1));
        await Promise.all([...sent, clients[0].publish('all', 'all', 1)]);
        for (const [number, client] of clients.entries()) {
            const got = [await client.next(), await client.next()].map(({ topic, payload }) => `${topic} ${payload}`);
            assert.deepEqual(got.sort(), ['all all', `to/${number} ${(number + size - 1) % size}`]);
            assert.equal(client.messages.length, 0);
        }
    },
};

const overdue = setTimeout(() => {
    console.error(`${scenario}: not done after ${DEADLINE_MS} ms`);
    process.exit(1);
}, DEADLINE_MS);
await scenarios[scenario]();
clearTimeout(overdue);
process.exit(0);
