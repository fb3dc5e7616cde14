/**
 * Gathers rows of a matrix and scatters them back with addition, four floats at a time. The plain JavaScript loops
 * took a fifth of the time of a short prompt, since they run on one thread between products on several. Does not know
 * threads or models.
 */
import {
  type Code,
  copyBytes,
  encodeModule,
  FunctionBuilder,
  f32,
  f32x4,
  i32,
  multiplyAdd,
  PAGE_BYTES,
  v128,
  type WasmFunction,
  whileLoop,
} from './wasm-encode.ts'

/** Addresses are byte offsets in the memory of the instance; `rows` points to `count` 32-bit row indices into `all`. */
export interface RowKernels {
  /** into[i] = all[rows[i]]; a row has `bytes` bytes. */
  gather(all: number, rows: number, into: number, count: number, bytes: number): void
  /** all[rows[i]] += weights[i] * from[i]; a row has `bytes` bytes. */
  scatterAdd(all: number, rows: number, weights: number, from: number, count: number, bytes: number): void
}

/**
 * Kernels over a new memory of at least `bytes` bytes, for one thread.
 * @throws RangeError for more than 4 GiB, or if the system cannot provide the memory.
 */
export function openRowKernels(bytes: number): {
  readonly buffer: ArrayBuffer
  readonly kernels: RowKernels
} {
  const pages = Math.ceil(bytes / PAGE_BYTES)
  const memory = new WebAssembly.Memory<ArrayBuffer>({ initial: pages, maximum: pages, shared: false })
  const module = new WebAssembly.Module(encodeModule([gather(), scatterAdd()], 'one thread'))
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  return { buffer: memory.buffer, kernels: exports as RowKernels }
}

function gather(): WasmFunction {
  const f = new FunctionBuilder('gather')
  const all = f.param('i32')
  const rows = f.param('i32')
  const into = f.param('i32')
  const count = f.param('i32')
  const bytes = f.param('i32')
  const end = f.local('i32')
  return f.finish(
    end.set(i32.add(rows.get, i32.shl(count.get, i32.const(2)))),
    whileLoop(
      i32.ltU(rows.get, end.get),
      copyBytes(into.get, i32.add(all.get, i32.mul(i32.load(0, rows.get), bytes.get)), bytes.get),
      into.set(i32.add(into.get, bytes.get)),
      rows.set(i32.add(rows.get, i32.const(4))),
    ),
  )
}

function scatterAdd(): WasmFunction {
  const f = new FunctionBuilder('scatterAdd')
  const all = f.param('i32')
  const rows = f.param('i32')
  const weights = f.param('i32')
  const from = f.param('i32')
  const count = f.param('i32')
  const bytes = f.param('i32')
  const end = f.local('i32')
  const to = f.local('i32')
  const rowEnd = f.local('i32')
  const weight = f.local('v128')
  const advance = (step: number): Code[] => [
    to.set(i32.add(to.get, i32.const(step))),
    from.set(i32.add(from.get, i32.const(step))),
  ]
  return f.finish(
    end.set(i32.add(rows.get, i32.shl(count.get, i32.const(2)))),
    whileLoop(
      i32.ltU(rows.get, end.get),
      weight.set(v128.loadSplat32(0, weights.get)),
      to.set(i32.add(all.get, i32.mul(i32.load(0, rows.get), bytes.get))),
      rowEnd.set(i32.add(to.get, bytes.get)),
      whileLoop(
        i32.ltU(i32.add(to.get, i32.const(15)), rowEnd.get),
        v128.store(0, to.get, multiplyAdd(weight.get, v128.load(0, from.get), v128.load(0, to.get))),
        ...advance(16),
      ),
      whileLoop(
        i32.ltU(to.get, rowEnd.get),
        f32.store(
          0,
          to.get,
          f32.add(f32.mul(f32x4.lane(0, weight.get), f32.load(0, from.get)), f32.load(0, to.get)),
        ),
        ...advance(4),
      ),
      weights.set(i32.add(weights.get, i32.const(4))),
      rows.set(i32.add(rows.get, i32.const(4))),
    ),
  )
}
