import * as pulumi from "@pulumi/pulumi";
import { loadConfig } from "../components/config/load";
import { platformArgs } from "../components/config/platformArgs";
import { CmmPlatform } from "../components/platform/cmmPlatform";
import { record } from "../tests/support/mocks";
import { stackConfig } from "../tests/support/stackFile";

interface Child {
    resource: pulumi.Resource;
    type: string;
    name: string;
}

/**
 * The resources of a stack below their parents, in the order in which the program makes them. Pulumi's mocks stand for the
 * engine, and belong to the process: call it once, in a process that does nothing else with Pulumi.
 */
export async function resourceTree(stack: string): Promise<string[]> {
    pulumi.runtime.setAllConfig(stackConfig(stack));
    const recorder = await record({ preview: true });
    const children = new Map<pulumi.Resource | undefined, Child[]>();
    // A transformation is asked in each resource's constructor; registrations wait for inputs, so their order is another.
    const transformations: pulumi.ResourceTransformation[] = [
        ({ resource, type, name, opts }) => {
            children.set(opts.parent, [...(children.get(opts.parent) ?? []), { resource, type, name }]);
            return undefined;
        },
    ];
    const root = new CmmPlatform("gh200", platformArgs(loadConfig()), { transformations });
    await recorder.settled();
    const drawn = (parent: pulumi.Resource, indent: string): string[] => {
        const below = children.get(parent) ?? [];
        return below.flatMap(({ resource, type, name }, index) => {
            const last = index === below.length - 1;
            return [line(`${indent}${last ? "└─ " : "├─ "}${name}`, type), ...drawn(resource, `${indent}${last ? "   " : "│  "}`)];
        });
    };
    return [line("gh200", "CmmPlatform"), ...drawn(root, "")];
}

const line = (name: string, type: string): string => `${name.padEnd(38)}${type.replace("gh200-vllm:index:", "").replace(":index:", ":")}`;
