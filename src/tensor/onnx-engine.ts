/**
 * The default engine: traces a function, backward pass included, into one ONNX graph, which ONNX Runtime compiles and
 * runs, on the CPU or, if its files are installed, on CUDA. The libraries are loaded with the first function, so that a
 * process that computes nothing does not hold them in memory. Does not know models.
 */
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import type { Device, Engine } from './engine.ts'
import { disableTf32 } from './nvidia.ts'
import { requireCudaProvider } from './onnx-cuda.ts'

export interface OnnxEngineInit {
  /** Number of threads inside one operator; default: one per CPU. */
  readonly threads?: number
  /** Default: cpu. */
  readonly device?: Device
}

/** The engine `onnx`. @throws InputError `engine-missing` for `cuda` if ONNX Runtime's CUDA files are not installed. */
export function onnxEngine({
  threads = availableParallelism(),
  device = 'cpu',
}: OnnxEngineInit = {}): Engine {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string }
  if (device === 'cuda') {
    requireCudaProvider()
    disableTf32()
  }
  return {
    name: 'onnx',
    device,
    library: `ONNX Runtime ${version}`,
    // Left out on a GPU, so that callers do not start kernels on the CPU beside it.
    ...(device === 'cpu' ? { threads } : {}),
    compile: async (fn, signature, options) => {
      const { compileOnnx } = await import('./onnx-function.ts')
      return compileOnnx(fn, signature, { threads, device }, options)
    },
  }
}
