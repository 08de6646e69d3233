import * as path from "node:path";
import type * as grpc from "@grpc/grpc-js";
import type { BuilderDaemon } from "./connection";

/** A dead address is told within this time; docker-build itself needs 20 s and does not say why. */
export const answerTimeoutMs = 4_000;

interface Timestamp {
    seconds: string;
}

interface BuildHistoryEvent {
    record: {
        Ref: string;
        FrontendAttrs: Record<string, string>;
        error: { message: string } | null;
        CreatedAt: Timestamp | null;
        CompletedAt: Timestamp | null;
    } | null;
}

interface StatusResponse {
    vertexes: { digest: string; name: string; error: string }[];
    logs: { vertex: string; msg: Buffer }[];
}

export interface ListWorkersResponse {
    record: {
        ID: string;
        platforms: { OS: string; Architecture: string; Variant: string }[];
        BuildkitVersion: { version: string } | null;
    }[];
}

export type ControlClient = grpc.Client & {
    ListWorkers(request: object, options: grpc.CallOptions, callback: (error: grpc.ServiceError | null, value: ListWorkersResponse) => void): void;
    ListenBuildHistory(request: object, options: grpc.CallOptions): grpc.ClientReadableStream<BuildHistoryEvent>;
    Status(request: object, options: grpc.CallOptions): grpc.ClientReadableStream<StatusResponse>;
};

/** One build as BuildKit remembers it. */
export interface BuildRecord {
    ref: string;
    /** Stage of the Dockerfile; empty for the last one. */
    target: string;
    /** `PROJECT/STACK` that it is for; empty where the client did not say. */
    stack: string;
    started: Date;
    /** Undefined while it runs. */
    ended: Date | undefined;
    /** BuildKit's error; empty where there is none. */
    error: string;
}

/** Build argument that names whom a build is for. No Dockerfile declares it, so it is part of no step and no cache key. */
export const builtForArgument = "BUILT_FOR";

/** Builds of the daemon, the running ones alone or all that it remembers, the oldest first. */
export async function listBuilds(client: ControlClient, activeOnly: boolean): Promise<BuildRecord[]> {
    const events = await collect(client.ListenBuildHistory({ ActiveOnly: activeOnly, EarlyExit: true }, { deadline: Date.now() + answerTimeoutMs }));
    const records = events.flatMap(({ record }): BuildRecord[] => {
        if (record === null) {
            return [];
        }
        const attrs = record.FrontendAttrs;
        return [
            {
                ref: record.Ref,
                target: attrs.target ?? "",
                stack: attrs[`build-arg:${builtForArgument}`] ?? "",
                started: date(record.CreatedAt) ?? new Date(0),
                ended: date(record.CompletedAt),
                error: record.error?.message ?? "",
            },
        ];
    });
    return records.sort((a, b) => a.started.getTime() - b.started.getTime());
}

/** What the failed step of a build printed, line by line; every step's where none is marked as failed. */
export async function buildLog(client: ControlClient, ref: string): Promise<string[]> {
    const answers = await collect(client.Status({ Ref: ref }, { deadline: Date.now() + answerTimeoutMs }));
    const failed = new Set(
        answers
            .flatMap(({ vertexes }) => vertexes)
            .filter(({ error }) => error !== "")
            .map(({ digest }) => digest),
    );
    const logs = answers.flatMap((answer) => answer.logs).filter(({ vertex }) => failed.size === 0 || failed.has(vertex));
    return Buffer.concat(logs.map(({ msg }) => msg))
        .toString("utf8")
        .split("\n")
        .filter((line) => line.trim() !== "");
}

function collect<T>(stream: grpc.ClientReadableStream<T>): Promise<T[]> {
    return new Promise((resolve, reject) => {
        const items: T[] = [];
        stream.on("data", (item: T) => items.push(item));
        stream.once("end", () => resolve(items));
        stream.once("error", reject);
    });
}

function date(timestamp: Timestamp | null): Date | undefined {
    return timestamp === null ? undefined : new Date(Number(timestamp.seconds) * 1000);
}

/** Calls `use` with a client of the daemon and closes it. */
export async function withControl<T>(connection: BuilderDaemon, use: (client: ControlClient) => Promise<T>): Promise<T> {
    const client = await controlClient(connection);
    try {
        return await use(client);
    } finally {
        client.close();
    }
}

/** gRPC is loaded here alone: a preview, or an update without a build, does without it. */
async function controlClient(connection: BuilderDaemon): Promise<ControlClient> {
    const [grpc, protoLoader] = await Promise.all([import("@grpc/grpc-js"), import("@grpc/proto-loader")]);
    const definition = protoLoader.loadSync(path.join(__dirname, "control.proto"), { keepCase: true, defaults: true });
    const loaded = grpc.loadPackageDefinition(definition) as unknown as {
        moby: { buildkit: { v1: { Control: grpc.ServiceClientConstructor } } };
    };
    const credentials =
        connection.caCertificate === ""
            ? grpc.credentials.createInsecure()
            : grpc.credentials.createSsl(Buffer.from(connection.caCertificate), Buffer.from(connection.clientKey), Buffer.from(connection.clientCertificate));
    const address = connection.endpoint.replace(/^tcp:\/\//, "");
    const override = connection.serverName === "" ? {} : { "grpc.ssl_target_name_override": connection.serverName };
    return new loaded.moby.buildkit.v1.Control(address, credentials, {
        ...override,
        "grpc.enable_http_proxy": 0,
    }) as unknown as ControlClient;
}
