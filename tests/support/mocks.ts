import { createHash } from "node:crypto";
import * as grpc from "@grpc/grpc-js";
import * as pulumi from "@pulumi/pulumi";
import { CallbacksClient } from "@pulumi/pulumi/proto/callback_grpc_pb";
import { type Callback, CallbackInvokeRequest, type CallbackInvokeResponse } from "@pulumi/pulumi/proto/callback_pb";
import * as resources from "@pulumi/pulumi/proto/resource_pb";
import { Struct } from "google-protobuf/google/protobuf/struct_pb";

/**
 * One resource as the program asked the engine to register it. Read from the request itself, which
 * says more than Pulumi's mocks hand on: options, order and what is marked as secret.
 *
 * What no mock can show: whether the engine then does it (differences, deletion, hooks, failures) and
 * whether a provider or cluster accepts the inputs. The program and live tests do.
 */
export interface Registration {
    /** Type token, e.g. `docker-build:index:Image`. */
    type: string;
    name: string;
    /** `TYPE NAME` of the parent; empty for none. */
    parent: string;
    /** Inputs as plain JSON; a secret is `{ secret: VALUE }`, an unknown is `unknown`. */
    inputs: Record<string, unknown>;
    /** `TYPE NAME` of everything that it waits for: explicit dependencies and those of its inputs. */
    dependsOn: string[];
    retainOnDelete: boolean;
    /** Whether it goes before the one that takes its place comes. */
    deleteBeforeReplace: boolean;
    /** Properties whose changes the engine is told not to see, and those that it replaces the resource for. */
    ignoreChanges: string[];
    replaceOnChanges: string[];
    /** Names of the hooks by binding, without bindings that have none. */
    hooks: Record<string, string[]>;
}

type JavaScriptValues = Parameters<typeof Struct.fromJavaScript>[0];

/** Marks a value that a preview does not know. */
export const unknown = "unknown in a preview";

export interface Recorder {
    /** Everything that was registered, in the order of the requests. */
    registrations: Registration[];
    /** The resources of the type, in order. */
    ofType(type: string): Registration[];
    /** The only resource of that type and name. */
    only(type: string, name: string): Registration;
    /** Waits until every registration has been answered. */
    settled(): Promise<void>;
    /** Names of the hooks that were registered, in order. */
    hookNames(): string[];
    /** Runs a hook as the engine does, over the program's callback server; the text of its error, empty where it passes. */
    runHook(name: string, oldOutputs?: JavaScriptValues, newInputs?: JavaScriptValues): Promise<string>;
    /** The most custom resources of the type that were being created at once. */
    mostAtOnce(type: string): number;
}

export const imageType = "docker-build:index:Image";

/** A digest that is a function of the resource's name. */
export function mockDigest(name: string): string {
    return `sha256:${createHash("sha256").update(name).digest("hex")}`;
}

/**
 * Replaces the engine. An image gets `mockDigest` of its name; in a preview it is unknown. `outputs` are
 * what a provider would add to the resources of a type.
 */
export async function record({ preview = false, outputs = {} as Record<string, object> } = {}): Promise<Recorder> {
    // What the test before left behind, e.g. a component that was refused, is answered by its own mock.
    await drained();
    const registrations: Registration[] = [];
    const hooks = new Map<string, Callback>();
    const running = new Map<string, number>();
    const peak = new Map<string, number>();
    await pulumi.runtime.setMocks(
        {
            newResource: async ({ type, name, inputs }) => {
                const now = (running.get(type) ?? 0) + 1;
                running.set(type, now);
                peak.set(type, Math.max(peak.get(type) ?? 0, now));
                await new Promise((resolve) => setTimeout(resolve, 5));
                running.set(type, now - 1);
                const digest = type === imageType && !preview ? { digest: mockDigest(name) } : {};
                return { id: preview ? "" : `${name}-id`, state: { ...(inputs as object), ...digest, ...outputs[type] } };
            },
            call: ({ token }) => {
                throw new Error(`no component calls a provider's function, but ${token} was called`);
            },
        },
        "gh200-vllm",
        "test",
        preview,
    );
    const monitor = (pulumi.runtime as unknown as { getMonitor(): MockMonitor }).getMonitor();
    const answer = monitor.registerResource.bind(monitor);
    monitor.registerResource = (request, callback) => {
        registrations.push(registration(request));
        return answer(request, callback);
    };
    // Pulumi's mock has no hooks: their registration is recorded, and runHook is the engine's part.
    monitor.registerResourceHook = (request, callback) => {
        hooks.set(request.getName(), request.getCallback()!);
        callback(null, {});
    };
    monitor.registerErrorHook = (_request, callback) => callback(null, {});
    return {
        registrations,
        hookNames: () => [...hooks.keys()],
        runHook: (name, oldOutputs, newInputs) => invokeHook(name, hooks.get(name)!, oldOutputs, newInputs),
        ofType: (type) => registrations.filter((candidate) => candidate.type === type),
        only: (type, name) => {
            const found = registrations.filter((candidate) => candidate.type === type && candidate.name === name);
            if (found.length !== 1) {
                throw new Error(`${found.length} resources ${type} ${name}; there are ${registrations.map(label).join(", ")}`);
            }
            return found[0]!;
        },
        settled: async () => {
            // An answer may let the next registration start, so the queue is drained until it stays empty.
            for (let before = -1; before !== registrations.length;) {
                before = registrations.length;
                await drained();
            }
        },
        mostAtOnce: (type) => peak.get(type) ?? 0,
    };
}

async function drained(): Promise<void> {
    await (pulumi.runtime as unknown as { waitForRPCs(): Promise<void> }).waitForRPCs();
    await new Promise((resolve) => setTimeout(resolve, 20));
}

/** `TYPE NAME`, as parents and dependencies are named. */
export function label({ type, name }: { type: string; name: string }): string {
    return `${type} ${name}`;
}

/** The value of an Output once it is known. */
export function valueOf<T>(output: pulumi.Output<T>): Promise<T> {
    return new Promise((resolve) => void output.apply((value) => resolve(value as T)));
}

async function invokeHook(
    name: string,
    callback: Callback,
    oldOutputs: JavaScriptValues | undefined,
    newInputs: JavaScriptValues | undefined,
): Promise<string> {
    const hook = new resources.ResourceHookRequest();
    hook.setName(name);
    hook.setOldOutputs(oldOutputs && Struct.fromJavaScript(oldOutputs));
    hook.setNewInputs(newInputs && Struct.fromJavaScript(newInputs));
    const invocation = new CallbackInvokeRequest();
    invocation.setToken(callback.getToken());
    invocation.setRequest(hook.serializeBinary());
    const client = new CallbacksClient(callback.getTarget(), grpc.credentials.createInsecure());
    try {
        const answer = await new Promise<CallbackInvokeResponse>((resolve, reject) =>
            client.invoke(invocation, (error, response) => (error ? reject(error) : resolve(response))),
        );
        return resources.ResourceHookResponse.deserializeBinary(answer.getResponse_asU8()).getError();
    } finally {
        client.close();
    }
}

/** An Output as a preview has it, of a resource that is yet to be made. */
export function unknownOutput<T>(): pulumi.Output<T> {
    const no = () => Promise.resolve(false);
    // The constructor is the SDK's own and not part of its types.
    const Output = pulumi.Output as unknown as new (...parts: unknown[]) => pulumi.Output<T>;
    return new Output(new Set(), Promise.resolve(undefined), no(), no(), Promise.resolve(new Set()));
}

interface MockMonitor {
    registerResource(request: resources.RegisterResourceRequest, callback: unknown): Promise<void>;
    registerResourceHook(request: resources.RegisterResourceHookRequest, callback: (error: null, answer: object) => void): void;
    registerErrorHook(request: object, callback: (error: null, answer: object) => void): void;
}

function registration(request: resources.RegisterResourceRequest): Registration {
    const hooks = request.getHooks()?.toObject() ?? {};
    return {
        type: request.getType(),
        name: request.getName(),
        parent: request.getParent() === "" ? "" : labelOfUrn(request.getParent()),
        inputs: plain(request.getObject()?.toJavaScript() ?? {}) as Record<string, unknown>,
        dependsOn: request.getDependenciesList().map(labelOfUrn).sort(),
        retainOnDelete: request.getRetainondelete() ?? false,
        deleteBeforeReplace: request.getDeletebeforereplace(),
        ignoreChanges: request.getIgnorechangesList(),
        replaceOnChanges: request.getReplaceonchangesList(),
        hooks: Object.fromEntries(
            Object.entries(hooks)
                .filter(([, names]) => Array.isArray(names) && names.length > 0)
                .map(([binding, names]) => [binding.replace(/List$/, ""), names as string[]]),
        ),
    };
}

function labelOfUrn(urn: string): string {
    const [, , types = "", name = ""] = urn.split("::");
    return `${types.split("$").at(-1)} ${name}`;
}

/** Pulumi's own signature keys and values (sdk/nodejs/runtime/rpc.ts). */
const signature = "4dabf18193072939515e22adb298388d";
const secretSignature = "1b47061264138c4ac30d75fd1eb44270";
const unknownText = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

function plain(value: unknown): unknown {
    if (value === unknownText) {
        return unknown;
    }
    if (Array.isArray(value)) {
        return value.map(plain);
    }
    if (typeof value !== "object" || value === null) {
        return value;
    }
    const entries = value as Record<string, unknown>;
    return entries[signature] === secretSignature
        ? { secret: plain(entries.value) }
        : Object.fromEntries(Object.entries(entries).map(([key, entry]) => [key, plain(entry)]));
}
