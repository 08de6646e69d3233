import { UserError } from "../../components/internal/errors";

/** The lines of the UserError that `action` throws. Another error, or none, is a failed test. */
export function refusal(action: () => unknown): string[] {
    try {
        action();
    } catch (error) {
        return linesOf(error);
    }
    throw new Error("nothing was refused");
}

/**
 * As `refusal`, for an input that is checked once it is known. Such a refusal ends a program as an
 * unhandled rejection, which is what Pulumi's host prints; so that is what is waited for.
 */
export async function laterRefusal(action: () => unknown): Promise<string[]> {
    const listeners = process.rawListeners("unhandledRejection") as NodeJS.UnhandledRejectionListener[];
    process.removeAllListeners("unhandledRejection");
    try {
        const rejection = new Promise<unknown>((resolve) => process.on("unhandledRejection", resolve));
        action();
        return linesOf(await rejection);
    } finally {
        // The other promises of the same Output reject in the same turn of the event loop, those of resources that wait for it after their requests.
        await new Promise((resolve) => setTimeout(resolve, 250));
        process.removeAllListeners("unhandledRejection");
        for (const listener of listeners) {
            process.on("unhandledRejection", listener);
        }
    }
}

function linesOf(error: unknown): string[] {
    if (!(error instanceof UserError)) {
        throw error;
    }
    return error.message.split("\n");
}
