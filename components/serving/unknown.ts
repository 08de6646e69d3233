/** Why nothing is made of a config.json, in a few words. */
export class Unknown extends Error {}

/** What can be read, or why not. */
export function known<T>(reading: () => T): { value: T } | { unknown: string } {
    try {
        return { value: reading() };
    } catch (error) {
        if (error instanceof Unknown) {
            return { unknown: error.message };
        }
        throw error;
    }
}
