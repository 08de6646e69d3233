/**
 * Compiles only where a hand-written interface and the zod schema that checks it describe the same
 * input. The interface is what editors and generated SDKs show; the schema is what runs.
 */
export type SameShape<A, B> = (<T>() => T extends Canonical<A> ? 1 : 2) extends <T>() => T extends Canonical<B> ? 1 : 2 ? true : never;

type Canonical<T> = T extends (infer E)[] ? Canonical<E>[] : T extends object ? { [K in keyof T]: Canonical<T[K]> } : T;
