/**
 * Encodes WebAssembly modules with SIMD as bytes. An expression is an array of bytes built by functions named after
 * their instruction (WebAssembly 2.0, binary format). Has only the instructions that the kernels need, and does not
 * know the kernels.
 */

declare global {
  /** The members used here; the types of Node.js 20 lack them. */
  namespace WebAssembly {
    class Module {
      constructor(bytes: Uint8Array<ArrayBuffer>)
    }
    class Memory<B extends ArrayBufferLike = ArrayBufferLike> {
      constructor(limits: {
        initial: number
        maximum: number
        shared: B extends SharedArrayBuffer ? true : false
      })
      readonly buffer: B
      /** @param pages number of pages to add. @throws RangeError if the system cannot provide them. */
      grow(pages: number): number
    }
    class Instance {
      constructor(module: Module, imports: { env: { memory: Memory } })
      readonly exports: unknown
    }
  }
}

/** Instruction bytes; they leave one value on the stack, or none. */
export type Code = readonly number[]
export type ValueType = 'i32' | 'f32' | 'v128'

const TYPE_CODES: Readonly<Record<ValueType, number>> = { i32: 0x7f, f32: 0x7d, v128: 0x7b }

/** A parameter or local variable of a function. */
export interface Local {
  readonly get: Code
  set(value: Code): Code
}

export interface WasmFunction {
  readonly name: string
  readonly params: readonly ValueType[]
  readonly locals: readonly ValueType[]
  readonly body: Code
}

/** Collects the parameters, locals and body of one function. */
export class FunctionBuilder {
  readonly #name: string
  readonly #params: ValueType[] = []
  readonly #locals: ValueType[] = []

  constructor(name: string) {
    this.#name = name
  }

  /** Adds a parameter. All parameters must be added before the first local. */
  param(type: ValueType): Local {
    this.#params.push(type)
    return local(this.#params.length - 1)
  }

  local(type: ValueType): Local {
    this.#locals.push(type)
    return local(this.#params.length + this.#locals.length - 1)
  }

  finish(...body: Code[]): WasmFunction {
    return { name: this.#name, params: this.#params, locals: this.#locals, body: body.flat() }
  }
}

function local(index: number): Local {
  return {
    get: [0x20, ...leb(index)],
    set: (value) => [...value, 0x21, ...leb(index)],
  }
}

/** Repeats `body` while `condition` is true; it is evaluated before every iteration. */
export function whileLoop(condition: Code, ...body: Code[]): Code {
  // block (loop (br_if outside unless condition) body (br loop))
  return [0x02, 0x40, 0x03, 0x40, ...condition, 0x45, 0x0d, 1, ...body.flat(), 0x0c, 0, 0x0b, 0x0b]
}

/** Runs `body` if `condition` is true. */
export function whenTrue(condition: Code, ...body: Code[]): Code {
  return [...condition, 0x04, 0x40, ...body.flat(), 0x0b]
}

const plain =
  (opcode: number) =>
  (...operands: Code[]): Code => [...operands.flat(), opcode]
const vector =
  (opcode: number) =>
  (...operands: Code[]): Code => [...operands.flat(), 0xfd, ...leb(opcode)]
/** Memory access with alignment hint 2^0, which allows every address. */
const access =
  (prefix: readonly number[]) =>
  (offset: number, ...operands: Code[]): Code => [...operands.flat(), ...prefix, 0, ...leb(offset)]

export const i32 = {
  const: (value: number): Code => [0x41, ...signedLeb(value)],
  load: access([0x28]),
  /** Loads an unsigned 16-bit integer. */
  load16U: access([0x2f]),
  store: access([0x36]),
  store16: access([0x3b]),
  /** The bits of a float. */
  reinterpret: plain(0xbc),
  add: plain(0x6a),
  sub: plain(0x6b),
  mul: plain(0x6c),
  and: plain(0x71),
  shl: plain(0x74),
  shiftRightU: plain(0x76),
  eqz: plain(0x45),
  ltU: plain(0x49),
}

/** Copies `count` bytes between two addresses. */
export function copyBytes(to: Code, from: Code, count: Code): Code {
  return [...to, ...from, ...count, 0xfc, 10, 0, 0]
}

export const f32 = {
  const: (value: number): Code => [0x43, ...new Uint8Array(Float32Array.of(value).buffer)],
  load: access([0x2a]),
  store: access([0x38]),
  sqrt: plain(0x91),
  add: plain(0x92),
  sub: plain(0x93),
  mul: plain(0x94),
  div: plain(0x95),
  min: plain(0x96),
  max: plain(0x97),
  /** Converts an unsigned 32-bit integer. */
  convert: plain(0xb3),
  /** The float with these bits. */
  reinterpret: plain(0xbe),
}

export const v128 = {
  load: access([0xfd, 0]),
  /** Loads 32 bits into all four lanes. */
  loadSplat32: access([0xfd, 9]),
  /** Loads 32 bits into the first lane and sets the others to zero. */
  loadZero32: access([0xfd, 92]),
  store: access([0xfd, 11]),
  and: vector(78),
  or: vector(80),
  /** Bits of the first operand where the mask is set, else of the second. */
  select: vector(82),
}

/** Four 32-bit lanes, each taken from the lanes 0-3 of `a` or 4-7 of `b`. */
export function shuffle32(lanes: readonly [number, number, number, number], a: Code, b: Code): Code {
  const bytes = lanes.flatMap((lane) => [4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3])
  return [...a, ...b, 0xfd, ...leb(13), ...bytes]
}

export const i16x8 = {
  add: vector(142),
  sub: vector(145),
  splat: vector(16),
  shl: vector(139),
  shiftRightS: vector(140),
  shiftRightU: vector(141),
  /** Eight lanes from two vectors of signed 32-bit lanes, saturated. */
  narrow: vector(133),
}

export const i32x4 = {
  add: vector(174),
  sub: vector(177),
  shl: vector(171),
  shiftRightU: vector(173),
  /** Truncates floats towards zero; NaN becomes 0. */
  truncate: vector(248),
  splat: vector(17),
  lane: (index: number, value: Code): Code => [...value, 0xfd, ...leb(27), index],
  /** Signed 32-bit lanes from the low or high four signed 16-bit lanes. */
  extendLow: vector(167),
  extendHigh: vector(168),
  /** Multiplies 16-bit lanes and adds neighbouring products. */
  dot: vector(186),
}

export const f32x4 = {
  splat: vector(19),
  lane: (index: number, value: Code): Code => [...value, 0xfd, ...leb(31), index],
  add: vector(228),
  sub: vector(229),
  mul: vector(230),
  div: vector(231),
  min: vector(232),
  max: vector(233),
  /** The second operand where it is greater, else the first: one instruction, unlike `max`. */
  greaterOf: vector(235),
  /** Sets every bit of the lanes in which the first operand is greater. */
  greater: vector(68),
  nearest: vector(106),
  convert: vector(250),
}

/**
 * Sets every 32-bit lane of `vector` to a constant by way of the word at `address`, which keeps its value. V8 builds a
 * constant again in every iteration of a loop, but keeps a loaded vector in a register.
 * @param word a local that this overwrites
 */
export function loadConstant(vector: Local, value: number, address: Code, word: Local): Code {
  return [
    word.set(i32.load(0, address)),
    i32.store(0, address, i32.const(value)),
    vector.set(v128.loadSplat32(0, address)),
    i32.store(0, address, word.get),
  ].flat()
}

export const ZERO = f32x4.splat(f32.const(0))

/** a * b + c, rounded after each operation. */
export function multiplyAdd(a: Code, b: Code, c: Code): Code {
  return f32x4.add(f32x4.mul(a, b), c)
}

/** Sum of the four lanes. `value` is encoded four times, so pass the `get` of a local. */
export function laneSum(value: Code): Code {
  const lane = (index: number): Code => f32x4.lane(index, value)
  return f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3)))
}

/** Limit of WebAssembly with 32-bit addresses. */
const MAX_PAGES = 65_536
/** Bytes of one WebAssembly memory page. */
export const PAGE_BYTES = 65_536

/**
 * Encodes a module that exports `functions`, which work in one imported memory, `env.memory`.
 * @param memoryOf whether that memory belongs to one thread or is shared by all
 */
export function encodeModule(
  functions: readonly WasmFunction[],
  memoryOf: 'one thread' | 'all threads',
): Uint8Array<ArrayBuffer> {
  const types = functions.map(({ params }) => [0x60, ...list(params.map((p) => [TYPE_CODES[p]])), 0])
  const limits = memoryOf === 'all threads' ? 0x03 : 0x01
  const memory = [...text('env'), ...text('memory'), 0x02, limits, 0, ...leb(MAX_PAGES)]
  const exports = functions.map(({ name }, i) => [...text(name), 0x00, ...leb(i)])
  const bodies = functions.map(({ locals, body }) => {
    const code = [...list(locals.map((type) => [1, TYPE_CODES[type]])), ...body, 0x0b]
    return [...leb(code.length), ...code]
  })
  const section = (id: number, items: readonly (readonly number[])[]): number[] => {
    const content = list(items)
    return [id, ...leb(content.length), ...content]
  }
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...section(2, [memory]),
    ...section(
      3,
      functions.map((_, i) => leb(i)),
    ),
    ...section(7, exports),
    ...section(10, bodies),
  ])
}

function list(items: readonly (readonly number[])[]): number[] {
  return [...leb(items.length), ...items.flat()]
}

function text(value: string): number[] {
  const bytes = [...new TextEncoder().encode(value)]
  return [...leb(bytes.length), ...bytes]
}

/** Unsigned LEB128. */
function leb(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return bytes
}

/** Signed LEB128 of a 32-bit integer. */
function signedLeb(value: number): number[] {
  const bytes: number[] = []
  let rest = value | 0
  for (;;) {
    const low = rest & 0x7f
    rest >>= 7
    if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) return [...bytes, low]
    bytes.push(low | 0x80)
  }
}
