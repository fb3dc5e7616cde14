/**
 * Which sockets a server keeps when there are too many: clients that send slowly or nothing give way to others.
 * Implements protocols/inference-api, section "Connections". Knows nothing about HTTP, keys and time.
 */

/** The part of a socket that this file uses. */
export interface ClientSocket {
  /** Address of the client, without its port. */
  readonly remoteAddress?: string | undefined
  destroy(): void
}

export interface ConnectionLimits {
  /** Maximum number of sockets. */
  readonly connections: number
  /** Maximum number of sockets that have not sent a valid key. */
  readonly strangers: number
}

/** A socket among the others. */
export class Connection {
  readonly address: string
  /** Sequence number of the event since which the server waits for this client. A lower number means a longer wait. */
  waitsSince: number
  /** Whether a valid key has arrived. */
  isKnown = false
  /** Number of requests that have arrived completely and are being answered. */
  answering = 0
  readonly #socket: ClientSocket

  constructor(socket: ClientSocket, waitsSince: number) {
    this.#socket = socket
    this.address = socket.remoteAddress ?? ''
    this.waitsSince = waitsSince
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

export class Connections {
  readonly #limits: ConnectionLimits
  readonly #all = new Set<Connection>()
  /** Number of events so far. */
  #events = 0

  constructor(limits: ConnectionLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#all.size
  }

  /** Adds a socket, and destroys another one, or this one, if there are too many. */
  open(socket: ClientSocket): Connection {
    const added = new Connection(socket, this.#events++)
    const strangers = this.#select(({ isKnown }) => !isKnown)
    this.#all.add(added)
    if (strangers.length >= this.#limits.strangers) this.#drop(longestWaiting(strangers))
    else if (this.#all.size > this.#limits.connections) {
      // Newcomers count like others, or they would give way to clients that send their requests slowly with a key.
      const waiting = this.#select((connection) => connection !== added && connection.answering === 0)
      this.#drop(longestWaiting(waiting) ?? added)
    }
    return added
  }

  /** A valid key has arrived on the connection. */
  know(connection: Connection): void {
    connection.isKnown = true
  }

  /**
   * A request has arrived completely on a connection with a valid key.
   * @returns a function to call when the answer has been sent or given up; a second call has no effect
   */
  answer(connection: Connection): () => void {
    connection.answering++
    let isOver = false
    return () => {
      if (isOver) return
      isOver = true
      connection.answering--
      connection.waitsSince = this.#events++
    }
  }

  /** The socket is closed. */
  close(connection: Connection): void {
    this.#all.delete(connection)
  }

  #select(isWanted: (connection: Connection) => boolean): Connection[] {
    return [...this.#all].filter(isWanted)
  }

  #drop(connection: Connection | undefined): void {
    if (connection === undefined) return
    this.#all.delete(connection)
    connection.destroy()
  }
}

/**
 * The connection that has waited longest, among those of the client address that holds the most. If several addresses
 * hold equally many, their connections are compared together.
 */
function longestWaiting(connections: readonly Connection[]): Connection | undefined {
  const counts = new Map<string, number>()
  for (const { address } of connections) counts.set(address, (counts.get(address) ?? 0) + 1)
  const most = Math.max(...counts.values())
  let found: Connection | undefined
  for (const connection of connections) {
    if (counts.get(connection.address) !== most) continue
    if (found === undefined || connection.waitsSince < found.waitsSince) found = connection
  }
  return found
}
