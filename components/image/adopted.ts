import { inputName, type Problem } from "../internal/errors";
import { releasedLabels } from "./imageRelease";
import { imageLabels, type RegistryCredentials, RegistryError } from "./registryClient";
import { standInProblems } from "./standIn";
import { versionProblems } from "./versions";

/**
 * Why an image that exists already may not be deployed: a release of this program is held to the same by its build and its push. What it
 * says of itself stands in its labels, which the digest covers.
 *
 * @param image `REPOSITORY@DIGEST`.
 * @param release `REPOSITORY:TAG` whose versions it must not be below; undefined for an approved rollback.
 */
export async function adoptedProblems(image: string, release: string | undefined, credentials: RegistryCredentials | undefined): Promise<Problem[]> {
    const path = inputName("image.use");
    try {
        const labels = await imageLabels(image, credentials);
        const released = release === undefined ? undefined : await releasedLabels(release, credentials);
        return [...standInProblems(image, labels), ...versionProblems(labels, released)].map((problem) => ({ ...problem, path: `${path}: ${problem.path}` }));
    } catch (error) {
        return [
            error instanceof RegistryError && error.status === 404
                ? { path, value: image, wrong: "is not in its registry", accepted: "an image that is there" }
                : {
                      path,
                      value: image,
                      wrong: `has labels that cannot be read: ${(error as Error).message}`,
                      accepted: "a registry that answers, with its credentials",
                  },
        ];
    }
}
