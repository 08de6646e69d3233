import * as pulumi from "@pulumi/pulumi";
import { problemLine } from "../internal/errors";
import { hookName } from "../internal/hookName";
import { inContext } from "../internal/inContext";

/** Annotation of every object with the URN of the component that made it. */
const ownerAnnotation = "ai.vllm.gh200/owner";

/**
 * Says whose an object is. Server-side apply would let a second stack take over an object of the same name, and delete it with itself;
 * a field that another manager has set to another value is a conflict instead, before anything is changed.
 */
export function owned(component: pulumi.Resource): Record<string, pulumi.Input<string>> {
    // As a promise: an Output of a component depends on all its children, and so would each of them on itself.
    return { [ownerAnnotation]: new Promise((done) => void component.urn.apply(done)) };
}

/** A hook that says in one line what the API server says of a field: that the object is somebody else's. */
export function conflictReport(component: pulumi.Resource): pulumi.ErrorHook {
    return new pulumi.ErrorHook(
        hookName(component, "conflict"),
        inContext(async ({ newInputs = {}, errors }) => {
            const { kind, metadata } = newInputs as { kind?: string; metadata?: { namespace?: string; name?: string } };
            if (errors.some((error) => error.includes(`.metadata.annotations.${ownerAnnotation}`))) {
                const line = problemLine({
                    path: `${kind} ${metadata?.namespace}/${metadata?.name}`,
                    wrong: `belongs to another stack or component (annotation ${ownerAnnotation})`,
                    accepted: "a name that nobody has in that namespace",
                    fix:
                        "give this server a namespace or a name of its own; what a destroy kept for it under another name: " +
                        `kubectl -n ${metadata?.namespace} annotate ${kind} ${metadata?.name} ${ownerAnnotation}-`,
                });
                await pulumi.log.error(line, component);
            }
            return false;
        }),
    );
}
