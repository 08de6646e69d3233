import * as fs from "node:fs";
import { plainObject } from "./plainObject";
import { record } from "./mocks";

export interface Manifest {
    apiVersion: string;
    kind: string;
    metadata: { name: string; namespace?: string };
    [key: string]: unknown;
}

/** Every Kubernetes object that a program registers, as it is sent; needs the files that components read. */
export async function rendered(program: () => void, outputs: Record<string, object> = {}): Promise<Manifest[]> {
    const recorder = await record({ outputs });
    program();
    await recorder.settled();
    return recorder.registrations.filter(({ type }) => type.startsWith("kubernetes:")).map(({ inputs }) => plainObject(inputs) as Manifest);
}

/** Objects as one JSON list, which kubectl and kube-score read as YAML. */
export function listOf(manifests: readonly Manifest[]): string {
    return JSON.stringify({ apiVersion: "v1", kind: "List", items: manifests });
}

export function writeList(file: string, manifests: readonly Manifest[]): string {
    fs.writeFileSync(file, listOf(manifests));
    return file;
}
