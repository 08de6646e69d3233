import { AsyncResource } from "node:async_hooks";

/**
 * A hook's function, bound to where its component is made. In a plug-in the engine calls hooks from elsewhere, where
 * Pulumi's SDK (3.270.0, runtime/state.js) knows no engine and drops without a word what is logged.
 */
export function inContext<Args extends unknown[], Result>(hook: (...args: Args) => Result): (...args: Args) => Result {
    const context = new AsyncResource("hook");
    return (...args) => context.runInAsyncScope(hook, undefined, ...args);
}
