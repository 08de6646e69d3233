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

/** As `refusal`, for what is refused later. */
export async function laterRefusal(action: () => Promise<unknown>): Promise<string[]> {
    let outcome: unknown;
    try {
        outcome = await action();
    } catch (error) {
        return linesOf(error);
    }
    throw new Error(`nothing was refused; the result is ${String(outcome)}`);
}

function linesOf(error: unknown): string[] {
    if (!(error instanceof UserError)) {
        throw error;
    }
    return error.message.split("\n");
}
