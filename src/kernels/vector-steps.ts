/**
 * The small steps between the products of one token, on float vectors: interleaving, weighted sums, RMS norms, and
 * rotary positions. Does not know threads or models.
 */
import {
  type Code,
  FunctionBuilder,
  f32,
  f32x4,
  i32,
  type Local,
  laneSum,
  multiplyAdd,
  v128,
  type WasmFunction,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

const SIXTEEN = i32.const(16)

/** Copies a contiguous vector to groups of four floats that start `step` bytes apart. */
export function interleave(): WasmFunction {
  const f = new FunctionBuilder('interleave')
  const [from, to, step, width] = [f.param('i32'), f.param('i32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  return f.finish(
    end.set(endOf(from, width)),
    whileLoop(
      i32.ltU(from.get, end.get),
      v128.store(0, to.get, v128.load(0, from.get)),
      advance(from),
      to.set(i32.add(to.get, step.get)),
    ),
  )
}

/** to += weight * from. */
export function addScaled(): WasmFunction {
  const f = new FunctionBuilder('addScaled')
  const [from, weight, to, width] = [f.param('i32'), f.param('f32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  const factor = f.local('v128')
  return f.finish(
    end.set(endOf(to, width)),
    factor.set(f32x4.splat(weight.get)),
    whileLoop(
      i32.ltU(to.get, end.get),
      v128.store(0, to.get, multiplyAdd(factor.get, v128.load(0, from.get), v128.load(0, to.get))),
      advance(to),
      advance(from),
    ),
  )
}

/** to = from * gain / rms(from); `from` and `to` may be the same. */
export function rmsNorm(): WasmFunction {
  return rmsNormKernel('rmsNorm', (values) => values)
}

/** to += from * gain / rms(from). */
export function addRmsNorm(): WasmFunction {
  return rmsNormKernel('addRmsNorm', (values, to) => f32x4.add(v128.load(0, to.get), values))
}

function rmsNormKernel(name: string, result: (values: Code, to: Local) => Code): WasmFunction {
  const f = new FunctionBuilder(name)
  const [from, gain, to, width] = [f.param('i32'), f.param('i32'), f.param('i32'), f.param('i32')]
  const eps = f.param('f32')
  const [at, end] = [f.local('i32'), f.local('i32')]
  const [values, scale] = [f.local('v128'), f.local('v128')]
  const mean = f32.div(laneSum(scale.get), f32.convert(width.get))
  return f.finish(
    end.set(endOf(from, width)),
    at.set(from.get),
    scale.set(ZERO),
    whileLoop(
      i32.ltU(at.get, end.get),
      values.set(v128.load(0, at.get)),
      scale.set(multiplyAdd(values.get, values.get, scale.get)),
      advance(at),
    ),
    scale.set(f32x4.splat(f32.div(f32.const(1), f32.sqrt(f32.add(mean, eps.get))))),
    whileLoop(
      i32.ltU(from.get, end.get),
      values.set(f32x4.mul(f32x4.mul(v128.load(0, from.get), scale.get), v128.load(0, gain.get))),
      v128.store(0, to.get, result(values.get, to)),
      advance(from),
      advance(gain),
      advance(to),
    ),
  )
}

/**
 * Rotates every head (2 `half` channels) of `width` floats in the rotate-half layout, by the cosines and sines (half
 * floats each) of one position.
 */
export function rotate(): WasmFunction {
  const f = new FunctionBuilder('rotate')
  const [values, cos, sin] = [f.param('i32'), f.param('i32'), f.param('i32')]
  const [half, width] = [f.param('i32'), f.param('i32')]
  const [end, headEnd, angle] = [f.local('i32'), f.local('i32'), f.local('i32')]
  const [first, second] = [f.local('f32'), f.local('f32')]
  const far = i32.add(values.get, half.get)
  const [cosine, sine] = [i32.add(cos.get, angle.get), i32.add(sin.get, angle.get)]
  return f.finish(
    end.set(endOf(values, width)),
    half.set(i32.shl(half.get, i32.const(2))),
    whileLoop(
      i32.ltU(values.get, end.get),
      headEnd.set(far),
      angle.set(i32.const(0)),
      whileLoop(
        i32.ltU(values.get, headEnd.get),
        first.set(f32.load(0, values.get)),
        second.set(f32.load(0, far)),
        f32.store(
          0,
          values.get,
          f32.sub(f32.mul(first.get, f32.load(0, cosine)), f32.mul(second.get, f32.load(0, sine))),
        ),
        f32.store(
          0,
          far,
          f32.add(f32.mul(second.get, f32.load(0, cosine)), f32.mul(first.get, f32.load(0, sine))),
        ),
        values.set(i32.add(values.get, i32.const(4))),
        angle.set(i32.add(angle.get, i32.const(4))),
      ),
      values.set(far),
    ),
  )
}

/** Address after the last of `width` floats. */
function endOf(start: Local, width: Local): Code {
  return i32.add(start.get, i32.shl(width.get, i32.const(2)))
}

function advance(address: Local): Code {
  return address.set(i32.add(address.get, SIXTEEN))
}
