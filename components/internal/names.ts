import { z } from "zod";

/*
 * Names as Kubernetes has them (k8s.io/apimachinery, util/validation). What the API server would refuse after a build of hours is
 * refused here in one line.
 */

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const subdomain = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const labelValue = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;

/** A namespace (RFC 1123's label). */
export const namespaceName = z.string().refine((text) => label.test(text), {
    error: "is no namespace; accepted: 1 to 63 lower-case letters, digits and dashes, with a letter or digit first and last",
});

/** Any other object (RFC 1123's subdomain). */
export const objectName = z.string().refine(isHostName, {
    error: "is no name of an object; accepted: 1 to 253 lower-case letters, digits, dashes and dots, with a letter or digit first and last",
});

/** An object that need not be: empty for none. */
export const optionalObjectName = z.string().refine((text) => text === "" || isHostName(text), {
    error: "is no name of an object; accepted: 1 to 253 lower-case letters, digits, dashes and dots, with a letter or digit first and last, or nothing",
});

/** Value of a label that a node must have; an empty one would choose nodes without it. */
export const nodeLabelValue = z.string().refine((text) => labelValue.test(text), {
    error: "is no value of a node's label; accepted: 1 to 63 letters, digits, dots, dashes and underscores, with a letter or digit first and last",
});

/** Key of a label or taint: a name, with or without a domain before it. */
export function isLabelKey(text: string): boolean {
    const [name = "", prefix, ...more] = text.split("/").reverse();
    return labelValue.test(name) && (prefix === undefined || subdomain.test(prefix)) && more.length === 0;
}

/** Value of a label, which may be empty. */
export function isLabelValue(text: string): boolean {
    return text === "" || labelValue.test(text);
}

/** A host's name in DNS. */
export function isHostName(text: string): boolean {
    return subdomain.test(text);
}
