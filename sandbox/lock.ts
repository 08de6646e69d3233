import * as net from "node:net";
import type { Layout } from "./layout";
import { Problem } from "./report";

/** One `up` or `down` at a time. An abstract socket, because the kernel frees it with the process, however it ends. */
export async function withLock<T>(layout: Layout, work: () => Promise<T>): Promise<T> {
    const server = net.createServer();
    await new Promise<void>((resolve, reject) => {
        server.once("error", () => reject(new Problem(`${layout.dir}: another up or down of this sandbox is running; wait for it or end it`)));
        server.listen(`\0gh200-sandbox-${layout.id}`, resolve);
    });
    try {
        return await work();
    } finally {
        server.close();
    }
}
