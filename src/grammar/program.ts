/**
 * A pushdown automaton over bytes as a list of nodes, and the pieces from which it is built. A rule is a node from which
 * every path ends in a return; calls of rules make it recursive. Knows nothing about JSON and tokens.
 */
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

/** Reads a byte of a range. */
export interface Edge {
  readonly low: number
  readonly high: number
  readonly to: number
}

export type Node =
  | { readonly kind: 'bytes'; readonly edges: readonly Edge[] }
  /** Continues at any of the nodes without reading. */
  | { readonly kind: 'fork'; readonly to: readonly number[] }
  /** Reads what a rule describes, then continues. */
  | {
      readonly kind: 'call'
      readonly rule: number
      readonly then: number
      /** Count with which to continue; `next` for one more than that of the call. */
      readonly count: number | 'next'
    }
  | { readonly kind: 'return' }
  /** Between two characters of a string. Counts characters, and continues after the quote. */
  | {
      readonly kind: 'string'
      readonly min: number
      readonly max: number
      /** The first byte of a character, or a backslash. */
      readonly edges: readonly Edge[]
      readonly then: number
    }
  /** After an item of a list. Counts items. */
  | {
      readonly kind: 'items'
      readonly min: number
      readonly max: number
      /** Continues here after a comma. */
      readonly more: number
      /** Continues here after the bracket. */
      readonly end: number
    }

/** A piece of a program: adds nodes that read it and continue at `then`, and returns the first of them. */
export type Piece = (then: number) => number

export class ProgramBuilder {
  readonly #nodes: Node[] = []
  readonly #param: string
  /** A return, shared by all rules. */
  readonly end: number

  /** @param param member of the request that a program which is too large is blamed on */
  constructor(param: string) {
    this.#param = param
    this.end = this.add({ kind: 'return' })
  }

  /** @throws FormatError `too-large` above the limit `grammarNodes` */
  add(node: Node): number {
    if (this.#nodes.length >= limit('grammarNodes'))
      throw new FormatError(
        'too-large',
        `${this.#param}: the schema needs an automaton of more than ${limit('grammarNodes')} nodes; send a smaller one`,
        { param: this.#param },
      )
    return this.#nodes.push(node) - 1
  }

  /** A node that is set later, for loops. */
  reserve(): number {
    return this.add({ kind: 'fork', to: [] })
  }

  set(id: number, node: Node): void {
    this.#nodes[id] = node
  }

  fork(...to: number[]): number {
    return to.length === 1 ? (to[0] as number) : this.add({ kind: 'fork', to })
  }

  call(rule: number, then: number, count: number | 'next' = 0): number {
    return this.add({ kind: 'call', rule, then, count })
  }

  /** One byte of the ranges. */
  oneOf(...ranges: readonly (readonly [low: number, high: number])[]): Piece {
    return (to) => this.add({ kind: 'bytes', edges: ranges.map(([low, high]) => ({ low, high, to })) })
  }

  /** The bytes of a text in UTF-8. */
  text(text: string): Piece {
    return (then) => this.#bytes(Buffer.from(text), then)
  }

  #bytes(bytes: Uint8Array, then: number): number {
    return bytes.reduceRight((to, byte) => this.oneOf([byte, byte])(to), then)
  }

  sequence(...pieces: readonly Piece[]): Piece {
    return (then) => pieces.reduceRight((to, piece) => piece(to), then)
  }

  either(...pieces: readonly Piece[]): Piece {
    return (then) => this.fork(...pieces.map((piece) => piece(then)))
  }

  optional(piece: Piece): Piece {
    return (then) => this.fork(piece(then), then)
  }

  /** A piece `min` to `max` times. */
  repeat(piece: Piece, min: number, max: number): Piece {
    return (then) => {
      let to = then
      for (let i = max; i > 0; i--) to = i > min ? this.fork(piece(to), then) : piece(to)
      return to
    }
  }

  /** Any of the texts. Shared beginnings become shared nodes. */
  anyText(texts: readonly string[]): Piece {
    return (then) =>
      this.#anyBytes(
        texts.map((text) => Buffer.from(text)),
        then,
      )
  }

  #anyBytes(texts: readonly Uint8Array[], then: number): number {
    const shared = sharedLength(texts)
    if (shared > 0) {
      const rest = this.#anyBytes(
        texts.map((text) => text.subarray(shared)),
        then,
      )
      const [first] = texts
      return this.#bytes(first?.subarray(0, shared) ?? new Uint8Array(), rest)
    }
    const rests = new Map<number, Uint8Array[]>()
    for (const text of texts) {
      const [first] = text
      if (first === undefined) continue
      const group = rests.get(first)
      if (group === undefined) rests.set(first, [text])
      else group.push(text)
    }
    const ways = Array.from(rests.values(), (group) => this.#anyBytes(group, then))
    return this.fork(...ways, ...(texts.some(({ length }) => length === 0) ? [then] : []))
  }

  /** @param start the rule that the whole text must follow */
  build(start: number): Program {
    return { nodes: this.#nodes, start, depths: depthsOf(this.#nodes) }
  }
}

/** Number of bytes that all texts begin with. */
function sharedLength([first = new Uint8Array(), ...others]: readonly Uint8Array[]): number {
  let shared = first.length
  for (const text of others) {
    shared = Math.min(shared, text.length)
    for (let i = 0; i < shared; i++) if (text[i] !== first[i]) shared = i
  }
  return shared
}

export interface Program {
  readonly nodes: readonly Node[]
  /** Node at which a text begins. It ends with the return of this rule. */
  readonly start: number
  /** By node: minimum number of calls that are open at once on a way to the return; Infinity if no way ends. */
  readonly depths: Float64Array
}

/** Dijkstra's algorithm backward from the returns. A node is settled once, with its smallest depth. */
function depthsOf(nodes: readonly Node[]): Float64Array {
  const depths = new Float64Array(nodes.length).fill(Number.POSITIVE_INFINITY)
  const before: number[][] = Array.from({ length: nodes.length }, () => [])
  /** Nodes by candidate depth. */
  const levels: number[][] = [[]]
  nodes.forEach((node, id) => {
    if (node.kind === 'return') levels[0]?.push(id)
    for (const to of successors(node)) before[to]?.push(id)
  })
  for (let depth = 0; depth < levels.length; depth++) {
    const level = levels[depth] ?? []
    for (let id = level.pop(); id !== undefined; id = level.pop()) {
      if (depths[id] !== Number.POSITIVE_INFINITY) continue
      depths[id] = depth
      for (const from of before[id] ?? []) {
        const node = nodes[from] as Node
        const candidate =
          node.kind === 'call'
            ? Math.max(1 + (depths[node.rule] as number), depths[node.then] as number)
            : depth
        if (candidate === Number.POSITIVE_INFINITY) continue
        while (levels.length <= candidate) levels.push([])
        levels[candidate]?.push(from)
      }
    }
  }
  return depths
}

function successors(node: Node): readonly number[] {
  switch (node.kind) {
    case 'bytes':
      return node.edges.map(({ to }) => to)
    case 'fork':
      return node.to
    case 'call':
      return [node.rule, node.then]
    case 'return':
      return []
    case 'string':
      return [node.then]
    case 'items':
      return [node.more, node.end]
  }
}
