/**
 * ONNX Runtime's CUDA provider: checks that its files are installed, gives the options of a session on it, and turns
 * its failures into one sentence. There is no silent fallback to the CPU: a graph of which some part cannot run on
 * the GPU is refused. Does not know graphs.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { InferenceSession } from 'onnxruntime-node'
import { FlexMeshError } from '../lib/errors.ts'
import { engineMissing } from './engine-missing.ts'

/** Runs the package's install script by hand, because this project denies install scripts. */
const NEXT = 'node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install-cuda=v12'
const WHAT = 'onnx on cuda'
const LIBRARIES = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so']
/** Folder of the native libraries inside onnxruntime-node. */
const BINARIES = join('bin', 'napi-v6', process.platform, process.arch)

/**
 * Returns if the provider's files are installed.
 * @throws InputError `engine-missing` otherwise, with the command that installs them if this platform has them.
 */
export function requireCudaProvider(): void {
  const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const missing = LIBRARIES.find((name) => !existsSync(join(root, BINARIES, name)))
  if (missing === undefined) return
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw engineMissing(WHAT, `onnxruntime-node has no CUDA for ${process.platform} on ${process.arch}`)
  }
  throw engineMissing(WHAT, `${missing} is not installed`, NEXT)
}

/** Options of a session that runs on the GPU only. */
export const CUDA_SESSION = {
  executionProviders: ['cuda'],
  // Without this, operators that the provider lacks would silently run on the CPU.
  extra: { session: { disable_cpu_ep_fallback: '1' } },
} as const satisfies InferenceSession.SessionOptions

/** The error for a session that cannot be created on the GPU: InputError `engine-missing`. */
export function cudaFailure(error: unknown): FlexMeshError {
  if (error instanceof FlexMeshError) return error
  const message = error instanceof Error ? error.message : String(error)
  const reason = message.includes('assigned to the default CPU EP')
    ? 'the CUDA provider lacks an operator of this graph (serving: attention over the cache in single precision, which --engine tensorflow has)'
    : `${(message.split('\n')[0] as string).slice(0, MAX_REASON)} (it needs an NVIDIA driver, CUDA 12 and cuDNN 9 on the library path)`
  return engineMissing(WHAT, reason, undefined, error)
}

/** Maximum characters of the library's message that are shown. */
const MAX_REASON = 200
