/** What the routes of the API know about a request besides the request itself: its connection and its id. Knows nothing about sockets. */

import type { Caller } from './callers.ts'

/** The connection over which a request arrived. Absent in tests that have no sockets. */
export interface Client {
  /** The request has an id, which its response and the log name. */
  identified(requestId: string): void
  /** The request has a valid key or session. @param who name of it that is no secret, for the count of what was sent */
  authenticated(who: string): void
  /** Tokens of the answer were generated. */
  generated(tokens: number): void
  /** The request has arrived completely, and its answer begins. */
  received(): void
  /** Close the connection: the client does not read. */
  drop(): void
}

/** A new id for a request, which its response and the log name. */
export function requestId(): string {
  return `req-${crypto.randomUUID()}`
}

export interface ApiEnv {
  readonly Bindings: {
    readonly client?: Client
    /** Whether the request arrived on the socket for other machines. */
    readonly isOutside?: boolean
  }
  readonly Variables: {
    requestId: string
    /** Whether the request comes from another machine, directly or through a proxy. */
    isOutside: boolean
    /** Whose key the request has; undefined for routes that decide themselves who may ask. */
    caller?: Caller
    /** What routes that are mounted know about the person that asks. */
    session: { readonly role: 'operator' | 'reader'; readonly expiresAt: number }
  }
}
