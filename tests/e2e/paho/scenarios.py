"""Scenarios with Paho: `scenarios.py URL VERSION SCENARIO`. Ends with code 0 if all is as it should be.

The URL says how: tcp://, tls://, ws:// or wss://, with host and port. For tls and wss the environment names the authority that
signed the broker's certificate (BREAKWATER_CA), and the client's own certificate and key if it shows one (BREAKWATER_CERT,
BREAKWATER_KEY).
"""

import os
import queue
import resource
import selectors
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

URL = urlsplit(sys.argv[1])
VERSION = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}[sys.argv[2]]
IS_5 = VERSION == mqtt.MQTTv5
# For everything that is waited for: far beyond what a slow and busy machine needs.
DEADLINE_S = 60


class Client:
    """A client with a thread of its own; what arrives waits in a queue."""

    def __init__(self, client_id="", session=False, will=None, start=True):
        clean = {} if IS_5 else {"clean_session": not session}
        transport = "websockets" if URL.scheme in ("ws", "wss") else "tcp"
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=VERSION, transport=transport, **clean
        )
        if URL.scheme in ("tls", "wss"):
            certificate, key = os.environ.get("BREAKWATER_CERT"), os.environ.get("BREAKWATER_KEY")
            self.paho.tls_set(os.environ["BREAKWATER_CA"], certificate, key)
        self.messages = queue.Queue()
        self.connected = queue.Queue()
        self.subscribed = queue.Queue()
        self.disconnected = queue.Queue()
        self.paho.on_message = lambda _client, _data, message: self.messages.put(message)
        self.paho.on_connect = lambda _client, _data, flags, code, _properties: self.connected.put((flags, code))
        self.paho.on_subscribe = lambda _client, _data, _id, codes, _properties: self.subscribed.put(codes)
        self.paho.on_disconnect = lambda _client, _data, _flags, code, _properties: self.disconnected.put(code)
        if will:
            self.paho.will_set(will, b"died", qos=1, retain=False)
        arguments = {}
        if IS_5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if session else 0
            arguments = {"clean_start": not session, "properties": properties}
        self.paho.connect(URL.hostname, URL.port, keepalive=60, **arguments)
        self.session_present = None
        if start:
            self.paho.loop_start()
            flags, code = self.connected.get(timeout=DEADLINE_S)
            assert not code.is_failure, code
            self.session_present = flags.session_present

    def subscribe(self, topic, qos):
        self.paho.subscribe(topic, qos)
        codes = self.subscribed.get(timeout=DEADLINE_S)
        assert [code.value for code in codes] == [qos], codes

    def publish(self, topic, payload, qos, retain=False):
        self.paho.publish(topic, payload, qos, retain).wait_for_publish(DEADLINE_S)

    def next(self):
        return self.messages.get(timeout=DEADLINE_S)

    def expect(self, topic, payload, qos, retain=False):
        message = self.next()
        found = (message.topic, message.payload, message.qos, message.retain)
        assert found == (topic, payload, qos, retain), f"{found} is not {(topic, payload, qos, retain)}"
        return message.properties if IS_5 else None

    def leave(self):
        self.paho.disconnect()
        self.disconnected.get(timeout=DEADLINE_S)
        self.paho.loop_stop()


def qos():
    subscriber, publisher = Client(), Client()
    subscriber.subscribe("qos/+", 2)
    for level in (0, 1, 2):
        for number in range(100):
            publisher.publish(f"qos/{level}", b"%d" % number, level)
        for number in range(100):
            subscriber.expect(f"qos/{level}", b"%d" % number, level)
    if IS_5:
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("b", "2"), ("a", "1"), ("b", "3")]
        properties.ContentType, properties.ResponseTopic, properties.CorrelationData = "text/plain", "re", b"\0\xff"
        publisher.paho.publish("qos/5", b"x", 1, properties=properties).wait_for_publish(DEADLINE_S)
        got = subscriber.expect("qos/5", b"x", 1)
        assert got.UserProperty == [("b", "2"), ("a", "1"), ("b", "3")], got
        assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == ("text/plain", "re", b"\0\xff"), got
    subscriber.leave()
    publisher.leave()


def retained():
    publisher = Client()
    publisher.publish("kept/a", b"old", 1, retain=True)
    publisher.publish("kept/a", b"new", 2, retain=True)
    publisher.publish("kept/gone", b"old", 1, retain=True)
    publisher.publish("kept/gone", b"", 1, retain=True)
    subscriber = Client()
    subscriber.subscribe("kept/#", 2)
    subscriber.expect("kept/a", b"new", 2, retain=True)
    publisher.publish("kept/live", b"now", 1, retain=True)
    subscriber.expect("kept/live", b"now", 1)


def will():
    watcher = Client()
    watcher.subscribe("wills", 1)
    command = [sys.executable, __file__, sys.argv[1], sys.argv[2], "hold_will"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"connected\n"
    holder.kill()
    watcher.expect("wills", b"died", 1)
    # One that says good-bye leaves none.
    Client(will="wills").leave()
    Client().publish("wills", b"end", 1)
    watcher.expect("wills", b"end", 1)


def hold_will():
    Client(will="wills")
    print("connected", flush=True)
    threading.Event().wait()


def shared():
    members, publisher, everything = [Client() for _ in range(3)], Client(), Client()
    for member in members:
        member.subscribe("$share/group/work", 1)
    everything.subscribe("work", 1)
    for number in range(60):
        publisher.publish("work", b"%d" % number, 1)
    for number in range(60):
        everything.expect("work", b"%d" % number, 1)
    # One publisher: then taking turns is exact.
    got = [[int(member.next().payload) for _ in range(20)] for member in members]
    assert sorted(sum(got, [])) == list(range(60)), got
    assert all(member.messages.empty() for member in members)


def resume():
    sleeper = Client("sleeper", session=True)
    assert not sleeper.session_present
    sleeper.subscribe("queue/#", 2)
    sleeper.leave()
    publisher = Client()
    for level in (1, 2):
        for number in range(200):
            publisher.publish(f"queue/{level}", b"%d" % number, level)
    sleeper = Client("sleeper", session=True)
    assert sleeper.session_present
    for level in (1, 2):
        for number in range(200):
            sleeper.expect(f"queue/{level}", b"%d" % number, level)
    sleeper.leave()
    assert not Client("sleeper", session=False).session_present


def large():
    payload = bytes(range(256)) * 1024
    subscriber, publisher = Client(), Client()
    subscriber.subscribe("large", 2)
    for level in (0, 1, 2):
        publisher.publish("large", payload, level)
        subscriber.expect("large", payload, level)


class Crowd:
    """A thousand clients in one thread: their sockets are polled here, Paho only reads and writes."""

    def __init__(self, size):
        self.selector = selectors.DefaultSelector()
        self.until = time.monotonic() + DEADLINE_S
        self.clients = [Client(f"crowd-{number}", start=False) for number in range(size)]
        for client in self.clients:
            self.selector.register(client.paho.socket(), selectors.EVENT_READ, client)

    def run(self, enough):
        """Reads and writes until all clients have had enough."""
        waiting = {client for client in self.clients if not enough(client)}
        while waiting:
            left = self.until - time.monotonic()
            assert left > 0, f"{len(waiting)} clients still wait"
            for key, _ in self.selector.select(left):
                client = key.data
                assert client.paho.loop_read() == mqtt.MQTT_ERR_SUCCESS
                if enough(client):
                    waiting.discard(client)
            for client in self.clients:
                while client.paho.want_write():
                    assert client.paho.loop_write() == mqtt.MQTT_ERR_SUCCESS


def crowd():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    size = 1000
    crowd = Crowd(size)
    crowd.run(lambda client: not client.connected.empty())
    assert all(not client.connected.get()[1].is_failure for client in crowd.clients)
    for number, client in enumerate(crowd.clients):
        client.paho.subscribe([(f"to/{number}", 1), ("all", 1)])
    crowd.run(lambda client: not client.subscribed.empty())
    for number, client in enumerate(crowd.clients):
        client.paho.publish(f"to/{(number + 1) % size}", b"%d" % number, 1)
    crowd.clients[0].paho.publish("all", b"all", 1)
    crowd.run(lambda client: client.messages.qsize() >= 2)
    for number, client in enumerate(crowd.clients):
        got = {message.topic: message.payload for message in client.messages.queue}
        assert got == {f"to/{number}": b"%d" % ((number - 1) % size), "all": b"all"}, got
        assert client.messages.qsize() == 2


def main():
    scenarios = (qos, retained, will, hold_will, shared, resume, large, crowd)
    {scenario.__name__: scenario for scenario in scenarios}[sys.argv[3]]()


main()
