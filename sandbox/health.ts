import * as http from "node:http";
import * as http2 from "node:http2";
import * as https from "node:https";
import * as net from "node:net";

// A daemon that is well answers in milliseconds.
const PATIENCE_MS = 2000;

export function httpHealth(scheme: typeof http | typeof https, options: https.RequestOptions): Promise<void> {
    return new Promise((resolve, reject) => {
        const request = scheme.get({ ...options, agent: false, timeout: PATIENCE_MS } as https.RequestOptions, (response) => {
            response.resume();
            response.statusCode === 200 ? resolve() : reject(new Error(`GET ${options.path} answers ${response.statusCode}`));
        });
        request.on("timeout", () => request.destroy(new Error(`GET ${options.path} does not answer`)));
        request.on("error", reject);
    });
}

/** grpc.health.v1.Health/Check, over TLS or over a socket file. */
export function grpcHealth(target: (http2.SecureClientSessionOptions & { port: number }) | { socketPath: string }): Promise<void> {
    return new Promise((resolve, reject) => {
        const session =
            "socketPath" in target
                ? http2.connect("http://localhost", { createConnection: () => net.connect(target.socketPath) })
                : http2.connect(`https://127.0.0.1:${target.port}`, target);
        const fail = (error: Error): void => {
            session.destroy();
            reject(error);
        };
        session.setTimeout(PATIENCE_MS, () => fail(new Error("no answer to the health check")));
        session.once("error", fail);
        const stream = session.request({ ":method": "POST", ":path": "/grpc.health.v1.Health/Check", "content-type": "application/grpc", te: "trailers" });
        const chunks: Buffer[] = [];
        stream.on("data", (chunk: Buffer) => chunks.push(chunk));
        stream.once("error", fail);
        stream.once("end", () => {
            session.close();
            // A frame header of five bytes, then field 1 (status) = 1 (SERVING).
            Buffer.concat(chunks)
                .subarray(5)
                .equals(Buffer.from([0x08, 0x01]))
                ? resolve()
                : reject(new Error("the health check does not say SERVING"));
        });
        // The request is an empty message: just a frame header.
        stream.end(Buffer.alloc(5));
    });
}
