/** Takes the recorder's marks of secrets away: `{ secret: VALUE }` is the value again. */
export function plainObject(value: unknown): unknown {
    if (Array.isArray(value)) {
        return value.map(plainObject);
    }
    if (typeof value !== "object" || value === null) {
        return value;
    }
    const entries = Object.entries(value);
    if (entries.length === 1 && entries[0]![0] === "secret" && typeof entries[0]![1] !== "undefined" && !isSecretVolume(entries[0]![1])) {
        return plainObject(entries[0]![1]);
    }
    return Object.fromEntries(entries.map(([key, inner]) => [key, plainObject(inner)]));
}

/** A pod's volume has a key of that name too. */
function isSecretVolume(inner: unknown): boolean {
    return typeof inner === "object" && inner !== null && "secretName" in inner;
}
