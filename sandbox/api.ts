import * as fs from "node:fs";
import * as https from "node:https";
import { text } from "node:stream/consumers";
import type { Certificate } from "./pki";

/** As much of the Kubernetes API as the sandbox needs to set itself up, without a client library and its start-up time. */
export class Api {
    private readonly agent: https.Agent;

    constructor(
        readonly port: number,
        client: Certificate,
    ) {
        this.agent = new https.Agent({ keepAlive: true, ca: fs.readFileSync(client.ca), cert: fs.readFileSync(client.cert), key: fs.readFileSync(client.key) });
    }

    get<T = unknown>(path: string): Promise<T> {
        return this.request<T>("GET", path);
    }

    /** Undefined where there is no such object. */
    async find<T = unknown>(path: string): Promise<T | undefined> {
        try {
            return await this.request<T>("GET", path);
        } catch (error) {
            if (error instanceof ApiError && error.status === 404) {
                return undefined;
            }
            throw error;
        }
    }

    /** Server-side apply: the same call creates, changes and leaves alone. `path` ends in the object's name. */
    apply<T = unknown>(path: string, object: object): Promise<T> {
        return this.request<T>("PATCH", `${path}?fieldManager=gh200-sandbox&force=true`, object, "application/apply-patch+yaml");
    }

    patch(path: string, change: object): Promise<unknown> {
        return this.request("PATCH", path, change, "application/merge-patch+json");
    }

    delete(path: string): Promise<unknown> {
        return this.request("DELETE", path);
    }

    async post<T = unknown>(path: string, body: object): Promise<T> {
        return this.request<T>("POST", path, body);
    }

    text(path: string): Promise<string> {
        return this.send("GET", path);
    }

    close(): void {
        this.agent.destroy();
    }

    private async request<T>(method: string, path: string, body?: object, type = "application/json"): Promise<T> {
        return JSON.parse(await this.send(method, path, body, type)) as T;
    }

    private send(method: string, path: string, body?: object, type = "application/json"): Promise<string> {
        return new Promise((resolve, reject) => {
            const content = body === undefined ? undefined : JSON.stringify(body);
            // Without a length Node sends the body of a DELETE so that the server takes it for the next request.
            const headers = content === undefined ? {} : { "content-type": type, "content-length": Buffer.byteLength(content) };
            const request = https.request(
                { host: "127.0.0.1", port: this.port, servername: "localhost", agent: this.agent, method, path, timeout: 5000, headers },
                (response) => {
                    text(response).then((answer) => {
                        const status = response.statusCode ?? 0;
                        status >= 200 && status < 300 ? resolve(answer) : reject(new ApiError(status, `${method} ${path.split("?")[0]}: ${messageOf(answer)}`));
                    }, reject);
                },
            );
            request.on("timeout", () => request.destroy(new Error(`${method} ${path.split("?")[0]}: no answer in 5 s`)));
            request.once("error", reject);
            request.end(content);
        });
    }
}

export class ApiError extends Error {
    constructor(
        readonly status: number,
        message: string,
    ) {
        super(message);
    }
}

function messageOf(text: string): string {
    try {
        return (JSON.parse(text) as { message?: string }).message ?? text;
    } catch {
        return text.slice(0, 300);
    }
}
