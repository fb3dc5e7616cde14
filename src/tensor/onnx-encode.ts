/**
 * Encodes ONNX models (onnx.proto3, IR version 8) as protocol buffers, with their tensors inside the model or in a
 * separate file. Does not know TensorFlow.js or sessions.
 */
import { concatBytes, utf8 } from '../lib/bytes.ts'

/** Values of onnx.TensorProto.DataType used here. */
export const ONNX_TYPE = { float32: 1, uint8: 2, int32: 6, int64: 7, bool: 9 } as const
export type OnnxType = keyof typeof ONNX_TYPE

export type Attribute =
  | { readonly name: string; readonly int: number }
  | { readonly name: string; readonly float: number }
  | { readonly name: string; readonly ints: readonly number[] }
  | { readonly name: string; readonly text: string }

export interface Node {
  readonly op: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: readonly Attribute[]
  readonly domain?: string
}

/** Bytes of a tensor that are read when they are written to a file, so that a graph can name more than memory holds. */
export interface ByteSource {
  readonly length: number
  /** The bytes in order. A piece may be overwritten by the next one. */
  pieces(signal?: AbortSignal): AsyncIterable<Uint8Array>
}

/** @typeParam S how bytes are given besides arrays */
export interface Initializer<S = never> {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly number[]
  readonly bytes: Uint8Array | S
}

export interface ValueInfo {
  readonly name: string
  readonly type: OnnxType
  /** A string is the name of a size that every run chooses. */
  readonly shape: readonly (number | string)[]
}

/** @typeParam S how bytes of initializers are given besides arrays; only a graph without sources can be a session */
export interface Graph<S = never> {
  readonly nodes: readonly Node[]
  readonly initializers: readonly Initializer<S>[]
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
}

const OPSET = 18
/** Smaller tensors stay inside the model, because shapes and scalars are read before the graph runs. */
const MIN_EXTERNAL_BYTES = 1024
/** In the separate file, tensors start at multiples of a memory page, so that the file can be memory-mapped. */
const PAGE_BYTES = 4096
/** onnx.TensorProto.DataLocation: the tensor's bytes are in another file. */
const EXTERNAL = 1
/** Values of onnx.AttributeProto.AttributeType used here. */
const ATTRIBUTE_TYPE = { float: 1, int: 2, text: 3, ints: 7 } as const
// Wire types of protocol buffers.
const VARINT = 0
const FIXED32 = 5
const LENGTH = 2

function varint(value: number): Uint8Array {
  const out: number[] = []
  let rest = BigInt.asUintN(64, BigInt(value))
  do {
    const low = Number(rest & 127n)
    rest >>= 7n
    out.push(rest > 0n ? low | 128 : low)
  } while (rest > 0n)
  return Uint8Array.from(out)
}

function tag(field: number, wire: number): Uint8Array {
  return varint((field << 3) | wire)
}

function message(field: number, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  return concatBytes(tag(field, LENGTH), varint(length), ...parts)
}

function text(field: number, value: string): Uint8Array {
  return message(field, utf8(value))
}

function integer(field: number, value: number): Uint8Array {
  return concatBytes(tag(field, VARINT), varint(value))
}

function float(field: number, value: number): Uint8Array {
  return concatBytes(tag(field, FIXED32), new Uint8Array(new Float32Array([value]).buffer))
}

function encodeAttribute(attribute: Attribute): Uint8Array {
  const name = text(1, attribute.name)
  if ('int' in attribute) {
    return message(5, name, integer(3, attribute.int), integer(20, ATTRIBUTE_TYPE.int))
  }
  if ('float' in attribute) {
    return message(5, name, float(2, attribute.float), integer(20, ATTRIBUTE_TYPE.float))
  }
  if ('text' in attribute) {
    return message(5, name, text(4, attribute.text), integer(20, ATTRIBUTE_TYPE.text))
  }
  return message(
    5,
    name,
    ...attribute.ints.map((value) => integer(8, value)),
    integer(20, ATTRIBUTE_TYPE.ints),
  )
}

function encodeNode(node: Node): Uint8Array {
  return message(
    1,
    ...node.inputs.map((name) => text(1, name)),
    ...node.outputs.map((name) => text(2, name)),
    text(4, node.op),
    ...(node.attributes ?? []).map(encodeAttribute),
    ...(node.domain === undefined ? [] : [text(7, node.domain)]),
  )
}

function encodeInitializer(tensor: Initializer<ByteSource>, values: readonly Uint8Array[]): Uint8Array {
  return message(
    5,
    ...tensor.shape.map((size) => integer(1, size)),
    integer(2, ONNX_TYPE[tensor.type]),
    text(8, tensor.name),
    ...values,
  )
}

function encodeValueInfo(field: number, value: ValueInfo): Uint8Array {
  const shape = message(
    2,
    ...value.shape.map((size) => message(1, typeof size === 'number' ? integer(1, size) : text(2, size))),
  )
  const type = message(2, message(1, integer(1, ONNX_TYPE[value.type]), shape))
  return message(field, text(1, value.name), type)
}

/** The bytes of a ModelProto with all tensors inside. */
export function encodeModel(graph: Graph): Uint8Array {
  return encode(
    graph,
    graph.initializers.map((tensor) => encodeInitializer(tensor, [message(9, tensor.bytes)])),
  )
}

/** A model whose large tensors are in a separate file. */
export interface ModelWithData {
  /** The bytes of the ModelProto. */
  readonly model: Uint8Array
  /** The content of the separate file, in order: tensors, and zeros between them. */
  readonly data: readonly (Uint8Array | ByteSource)[]
  /** Bytes of the separate file. */
  readonly dataBytes: number
}

/**
 * Encode a model whose large tensors are in a separate file, because a protocol buffer is limited to 2 GiB. The file may
 * have any size.
 * @param location name of that file, relative to the model
 */
export function encodeModelWithData(graph: Graph<ByteSource>, location: string): ModelWithData {
  const data: (Uint8Array | ByteSource)[] = []
  let at = 0
  const initializers = graph.initializers.map((tensor) => {
    const { bytes } = tensor
    if (bytes instanceof Uint8Array && bytes.length < MIN_EXTERNAL_BYTES) {
      return encodeInitializer(tensor, [message(9, bytes)])
    }
    const padding = (PAGE_BYTES - (at % PAGE_BYTES)) % PAGE_BYTES
    if (padding > 0) data.push(new Uint8Array(padding))
    const entries = { location, offset: String(at + padding), length: String(bytes.length) }
    data.push(bytes)
    at += padding + bytes.length
    return encodeInitializer(tensor, [
      ...Object.entries(entries).map(([key, value]) => message(13, text(1, key), text(2, value))),
      integer(14, EXTERNAL),
    ])
  })
  return { model: encode(graph, initializers), data, dataBytes: at }
}

function encode(graph: Graph<ByteSource>, initializers: readonly Uint8Array[]): Uint8Array {
  const domains = new Set(graph.nodes.flatMap(({ domain }) => (domain === undefined ? [] : [domain])))
  return concatBytes(
    integer(1, 8),
    text(2, 'flexmesh'),
    message(
      7,
      ...graph.nodes.map(encodeNode),
      text(2, 'flexmesh'),
      ...initializers,
      ...graph.inputs.map((value) => encodeValueInfo(11, value)),
      ...graph.outputs.map((value) => encodeValueInfo(12, value)),
    ),
    message(8, text(1, ''), integer(2, OPSET)),
    ...[...domains].map((domain) => message(8, text(1, domain), integer(2, 1))),
  )
}
