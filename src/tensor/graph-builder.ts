/** Builds an ONNX graph: chooses names, shares constants, and drops nodes that no output needs. Does not know files. */
import type { Attribute, Graph, Initializer, Node, OnnxType, ValueInfo } from './onnx-encode.ts'

interface NodeOptions {
  readonly results?: number
  readonly attributes?: readonly Attribute[]
  readonly domain?: string | undefined
}

/**
 * Nodes, initializers, inputs and outputs of one graph.
 * @typeParam S how bytes of initializers are given besides arrays
 */
export class GraphBuilder<S = never> {
  readonly nodes: Node[] = []
  readonly initializers: Initializer<S>[] = []
  readonly inputs: ValueInfo[] = []
  readonly outputs: ValueInfo[] = []
  readonly #constants = new Map<string, string>()
  #next = 0

  /** A name that no other value of the graph has. */
  fresh(): string {
    return `t${this.#next++}`
  }

  /** Name of an initializer with these values; constants of up to 16 values are shared. */
  constant(type: OnnxType, shape: readonly number[], values: ArrayLike<number>): string {
    const key = values.length <= 16 ? `${type}|${shape.join(',')}|${Array.from(values).join(',')}` : undefined
    const known = key === undefined ? undefined : this.#constants.get(key)
    if (known !== undefined) return known
    const name = `c${this.#next++}`
    this.initializers.push({ name, type, shape, bytes: pack(type, values) })
    if (key !== undefined) this.#constants.set(key, name)
    return name
  }

  /** Appends a node. @returns the names of its results. */
  node(
    op: string,
    inputs: readonly string[],
    { results = 1, attributes = [], domain }: NodeOptions = {},
  ): string[] {
    const outputs = Array.from({ length: results }, () => this.fresh())
    this.nodes.push({ op, inputs, outputs, attributes, ...(domain === undefined ? {} : { domain }) })
    return outputs
  }

  /**
   * The graph, with only the nodes and initializers that the outputs need: automatic differentiation also emits unused
   * gradients.
   */
  graph(): Graph<S> {
    const needed = new Set(this.outputs.map(({ name }) => name))
    const nodes: Node[] = []
    for (const node of this.nodes.toReversed()) {
      if (!node.outputs.some((name) => needed.has(name))) continue
      nodes.push(node)
      for (const name of node.inputs) needed.add(name)
    }
    const { inputs, outputs } = this
    const initializers = this.initializers.filter(({ name }) => needed.has(name))
    return { nodes: nodes.reverse(), initializers, inputs, outputs }
  }
}

function pack(type: OnnxType, values: ArrayLike<number>): Uint8Array {
  const typed =
    type === 'float32'
      ? Float32Array.from(values)
      : type === 'int32'
        ? Int32Array.from(values)
        : type === 'bool'
          ? Uint8Array.from(values)
          : BigInt64Array.from(Array.from(values, BigInt))
  return new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength)
}
