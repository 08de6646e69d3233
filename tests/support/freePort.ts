import * as net from "node:net";

/** A port of loopback that nobody listens on now. */
export async function freePort(): Promise<number> {
    const server = net.createServer();
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    const { port } = server.address() as net.AddressInfo;
    await new Promise((closed) => server.close(closed));
    return port;
}
