import { isLoopbackRegistry } from "../image/reference";
import type { Problem } from "../internal/errors";

/** What is accepted as a repository's address, for messages. */
export const acceptedGitAddress = "https://HOST/PATH or ssh://USER@HOST/PATH, without a password";

/** Host, and a path of letters that no shell, git or BuildKit gives a meaning: no `?` and `#`, which would be BuildKit's. */
const parts =
    /^(https?|ssh):\/\/(?:([^@/]*)@)?((?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::\d{1,5})?)((?:\/(?:[\w.~+@:,=-]|%[2-6][0-9a-f])+)+\/?)$/i;

/**
 * Whether a text is a repository's address and nothing else. What is none can be an option of git (`--upload-pack=COMMAND`),
 * a transport that runs a command (`ext::`), or a place for a password. Plain http is accepted on this machine alone.
 */
export function isGitAddress(text: string): boolean {
    const [, scheme, user, host = "", path = ""] = parts.exec(text) ?? [];
    if (scheme === undefined || path.split("/").some((part) => /^\.\.?$/.test(part))) {
        return false;
    }
    switch (scheme.toLowerCase()) {
        case "ssh":
            return user === undefined || /^\w[\w.-]*$/.test(user);
        case "http":
            return user === undefined && isLoopbackRegistry(host);
        default:
            return user === undefined;
    }
}

/** Whether a text is a branch, tag or commit (git-check-ref-format), and no option of git or folder of BuildKit's (`#REF:FOLDER`). */
export function isGitRef(text: string): boolean {
    return /^[\w+@.][\w+@./-]*$/.test(text) && !/^\.|\/[./-]|\.\.|\.lock(\/|$)|[./]$|^@$/.test(text);
}

/** What is wrong with a named context's address, before it is handed to BuildKit. Images are other rules' matter. */
export function contextAddressProblems(path: string, location: string): Problem[] {
    if (/^(docker-image|oci-layout):\/\//.test(location)) {
        return [];
    }
    const [, address = "", ref] = /^([^?#]*)(?:\?[\w=&.-]*)?(?:#(.*))?$/s.exec(location) ?? [];
    const [name = "", folder] = ref?.split(":", 2) ?? [];
    return isGitAddress(address) && (ref === undefined || name === "" || isGitRef(name)) && !/(^|\/)\.\.(\/|$)/.test(folder ?? "")
        ? []
        : [{ path, value: location, wrong: "is no git address", accepted: acceptedGitAddress }];
}
