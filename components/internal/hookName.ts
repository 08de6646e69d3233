import type * as pulumi from "@pulumi/pulumi";

/** What the SDK knows of a resource before its URN is there, and leaves out of its types (3.270.0, resource.js). */
interface Registered {
    __pulumiType: string;
    __name?: string;
    __parentResource?: Registered;
}

/**
 * Name of a component's hook, e.g. `CmmPlatform gh200/VllmServer gh200-vllm/report`: unique where the component is. The engine has one
 * list of hooks for a whole update, while two resources may have one name as long as their types or parents differ.
 */
export function hookName(component: pulumi.Resource, what: string): string {
    const path: string[] = [];
    const stack = "pulumi:pulumi:Stack";
    // In a plug-in the parent of what the program makes is known by its URN alone, which comes later.
    for (let at: Registered | undefined = component as unknown as Registered; at?.__name !== undefined && at.__pulumiType !== stack; at = at.__parentResource) {
        path.unshift(`${at.__pulumiType.split(":").at(-1)} ${at.__name}`);
    }
    return [...path, what].join("/");
}
