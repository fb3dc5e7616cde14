/**
 * ONNX Runtime's CUDA provider: whether its files are installed, the options of a session on it, and
 * its failures in one sentence. Nothing falls back to the processor unseen: a graph that cannot run
 * on the GPU as a whole is refused. Knows no graph.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { InferenceSession } from 'onnxruntime-node'
import { FlexMeshError } from '../lib/errors.ts'
import { engineMissing } from './engine-missing.ts'

/** The package's own script, called by name because this project denies install scripts. */
const NEXT = 'node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install-cuda=v12'
const WHAT = 'onnx on cuda'
const LIBRARIES = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so']
/** Where onnxruntime-node keeps its libraries. */
const BINARIES = join('bin', 'napi-v6', process.platform, process.arch)

/** @throws InputError `engine-missing` with the next command where the provider's files are absent. */
export function requireCudaProvider(): void {
  const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const missing = LIBRARIES.find((name) => !existsSync(join(root, BINARIES, name)))
  if (missing === undefined) return
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw engineMissing(WHAT, `onnxruntime-node has no CUDA for ${process.platform} on ${process.arch}`)
  }
  throw engineMissing(WHAT, `${missing} is not installed`, NEXT)
}

export const CUDA_SESSION = {
  executionProviders: ['cuda'],
  // Without this, operators that the provider lacks run on the processor and nobody is told.
  extra: { session: { disable_cpu_ep_fallback: '1' } },
} as const satisfies InferenceSession.SessionOptions

/** What the user reads when a session cannot be made on the GPU. */
export function cudaFailure(error: unknown): FlexMeshError {
  if (error instanceof FlexMeshError) return error
  const message = error instanceof Error ? error.message : String(error)
  const reason = message.includes('assigned to the default CPU EP')
    ? 'the CUDA provider lacks an operator of this graph (serving: attention over the cache in single precision, which --engine tensorflow has)'
    : `${(message.split('\n')[0] as string).slice(0, MAX_REASON)} (it needs an NVIDIA driver, CUDA 12 and cuDNN 9 on the library path)`
  return engineMissing(WHAT, reason, undefined, error)
}

/** Characters of a library's own message that are shown. */
const MAX_REASON = 200
