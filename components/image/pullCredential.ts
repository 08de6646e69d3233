import { inputName, type Problem } from "../internal/errors";
import { registryHost } from "./reference";
import { grantedActions, isDenial, type RegistryCredentials, RegistryError, takesLogin, tagDigest } from "./registryClient";

/**
 * Why pods must not pull as this user: the registry does not take the login, a repository is there and closed to it, or open to its pushes.
 *
 * A registry that hides what is not there answers the first build as it answers a stranger, so whether a repository is there is asked
 * as whoever pushes. Without a token server, or with tokens that say nothing of themselves, what may be pushed cannot be told.
 *
 * @param references of images that pods pull, or will.
 */
export async function pullCredentialProblems(
    references: readonly string[],
    pulls: RegistryCredentials,
    pushes: RegistryCredentials | undefined,
): Promise<Problem[]> {
    const path = inputName("registry.pullUsername");
    const { username: value } = pulls;
    const host = registryHost(references[0] ?? "");
    try {
        if (!(await takesLogin(host, pulls))) {
            return [{ path, value, wrong: `is refused by ${host}`, accepted: "a user whom the registry takes, with that user's password" }];
        }
        const problems = references.map(async (reference): Promise<Problem[]> => {
            const repository = reference.replace(/(:[^/:]+|@.+)$/, "");
            if ((await answer(reference, pulls)) === "closed" && (await answer(reference, pushes)) === "there") {
                return [{ path, value, wrong: `may not pull ${repository}, so no pod could start`, accepted: "a user who may pull it" }];
            }
            return (await grantedActions(reference, "pull,push", pulls))?.includes("push")
                ? [
                      {
                          path,
                          value,
                          wrong: `may push to ${repository}: whoever reads the pods' pull secret could replace what is deployed`,
                          accepted: "a user who may pull alone",
                      },
                  ]
                : [];
        });
        return (await Promise.all(problems)).flat();
    } catch (error) {
        return [{ path, value, wrong: `cannot be tried: ${(error as Error).message}`, accepted: "a registry that answers" }];
    }
}

async function answer(reference: string, credentials: RegistryCredentials | undefined): Promise<"there" | "absent" | "closed"> {
    try {
        await tagDigest(reference, credentials);
        return "there";
    } catch (error) {
        if (isDenial(error)) {
            return "closed";
        }
        if (error instanceof RegistryError && error.status === 404) {
            return "absent";
        }
        throw error;
    }
}
