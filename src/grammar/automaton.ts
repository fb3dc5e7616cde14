/**
 * Runs a program on bytes: a state is the set of all stacks that the bytes so far allow, and each transition is computed
 * once. Knows nothing about JSON and tokens.
 */
import { limit } from '../lib/limits.ts'
import type { Node, Program } from './program.ts'

/** A position in the program with the calls that are open. Equal ones are one object. */
export interface Path {
  readonly id: number
  readonly node: number
  /** Number of characters or items so far, of nodes that count. */
  readonly count: number
  /** Where the innermost open call continues. */
  readonly parent: Path | undefined
  /** Number of open calls. */
  readonly depth: number
}

/** All paths that the bytes so far allow. */
export interface State {
  /** Each reads a byte next. */
  readonly paths: readonly Path[]
  /** Whether the text may end here. */
  readonly isEnd: boolean
  /** By byte: the next state, null if no path reads the byte; absent until it is computed. */
  readonly next: (State | null | undefined)[]
}

export class Automaton {
  readonly program: Program
  readonly #paths = new Map<string, Path>()
  readonly #states = new Map<string, State>()
  readonly #maxDepth = limit('grammarDepth')
  #ids = 0

  /** @param program has a way to its end within the limit `grammarDepth` */
  constructor(program: Program) {
    this.program = program
  }

  start(): State {
    const first = this.#path(this.program.start, 0, undefined)
    return this.#stateOf(first === undefined ? [] : [first])
  }

  /** The state after a byte; null if the program does not allow it. */
  next(state: State, byte: number): State | null {
    const known = state.next[byte]
    if (known !== undefined) return known
    const after: Path[] = []
    for (const path of state.paths) this.#read(path, byte, after)
    const next = after.length === 0 ? null : this.#stateOf(after)
    state.next[byte] = next
    return next
  }

  /** A state with some of the paths of another one. */
  part(paths: readonly Path[]): State {
    return this.#intern(paths, false)
  }

  /** The paths after a byte, before calls and returns. */
  #read(path: Path, byte: number, after: Path[]): void {
    const node = this.program.nodes[path.node] as Node
    const go = (to: number, count: number): void => {
      const next = this.#path(to, count, path.parent)
      if (next !== undefined) after.push(next)
    }
    if (node.kind === 'bytes') {
      for (const { low, high, to } of node.edges) if (byte >= low && byte <= high) go(to, path.count)
    } else if (node.kind === 'string') {
      if (byte === 0x22) {
        if (path.count >= node.min) go(node.then, 0)
      } else if (path.count < node.max) {
        for (const { low, high, to } of node.edges)
          if (byte >= low && byte <= high) go(to, counted(node, path.count + 1))
      }
    } else if (node.kind === 'items') {
      if (byte === 0x2c && path.count < node.max) go(node.more, path.count)
      if (byte === 0x5d && path.count >= node.min) go(node.end, 0)
    }
  }

  /** Undefined if the text could not end within the limit of depth. */
  #path(node: number, count: number, parent: Path | undefined): Path | undefined {
    const depth = parent === undefined ? 0 : parent.depth + 1
    if (depth + (this.program.depths[node] as number) > this.#maxDepth) return undefined
    const key = `${node}:${count}:${parent?.id}`
    const known = this.#paths.get(key)
    if (known !== undefined) return known
    const path = { id: this.#ids++, node, count, parent, depth }
    this.#paths.set(key, path)
    return path
  }

  /** Follows forks, calls and returns up to nodes that read. */
  #stateOf(from: readonly Path[]): State {
    const seen = new Set(from)
    const reading: Path[] = []
    let isEnd = false
    const visit = (path: Path | undefined): void => {
      if (path !== undefined) seen.add(path)
    }
    // The set grows while it is read. Beyond the limit, paths are left out: every other one still has an end.
    for (const path of seen) {
      if (reading.length >= limit('grammarPaths')) break
      const node = this.program.nodes[path.node] as Node
      if (node.kind === 'fork') for (const to of node.to) visit(this.#path(to, path.count, path.parent))
      else if (node.kind === 'call') {
        const then = this.program.nodes[node.then] as Node
        const count = node.count === 'next' ? counted(then, path.count + 1) : node.count
        const frame = this.#path(node.then, count, path.parent)
        visit(frame && this.#path(node.rule, 0, frame))
      } else if (node.kind !== 'return') reading.push(path)
      else if (path.parent === undefined) isEnd = true
      else visit(path.parent)
    }
    return this.#intern(reading, isEnd)
  }

  #intern(paths: readonly Path[], isEnd: boolean): State {
    const key = `${paths
      .map(({ id }) => id)
      .sort((a, b) => a - b)
      .join()}${isEnd ? '!' : ''}`
    const known = this.#states.get(key)
    if (known !== undefined) return known
    // States in use stay valid when they are forgotten here: equal ones are then computed again.
    if (this.#states.size >= limit('grammarStates')) {
      this.#states.clear()
      this.#paths.clear()
    }
    const state: State = { paths, isEnd, next: new Array(256) }
    this.#states.set(key, state)
    return state
  }
}

/** A count that nothing depends on any more stays the same, so that the states do, too. */
function counted(node: Node, count: number): number {
  if (node.kind !== 'string' && node.kind !== 'items') return count
  return node.max === Number.POSITIVE_INFINITY ? Math.min(count, node.min) : count
}
