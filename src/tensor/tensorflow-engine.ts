/**
 * The engine `tensorflow`: TensorFlow.js on the native library of @tensorflow/tfjs-node-gpu, on an NVIDIA GPU if that
 * library sees one. The package and its native binding are optional; this file finds out why the engine cannot run here
 * and which command would fix that. Does not know models.
 */
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import util from 'node:util'
import { eagerEngine } from './eager-engine.ts'
import type { Device, Engine } from './engine.ts'
import { engineMissing } from './engine-missing.ts'
import { disableTf32, nvidiaGpus } from './nvidia.ts'

/** Name under which the package registers its backend. */
const BACKEND = 'tensorflow'
const PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const

export interface TensorflowEngineInit {
  /** Default: a GPU if this machine has one. */
  readonly device?: Device
  /** Number of threads inside one operation, and of operations that run in parallel; default: the library's. */
  readonly threads?: number
}

/** The exports of the packages that are used here. */
interface NativeModule {
  readonly version: Readonly<Record<string, string>>
  findBackend(name: string): {
    readonly isUsingGpuDevice: boolean
    readonly binding: { readonly TF_Version: string }
  }
}

/**
 * The library reads its environment when it is loaded, so the first call in a process decides device and threads.
 * @throws InputError `engine-missing`, with the next command in `fields.next`, if no binding loads, or if it would run
 * on the CPU although a GPU was requested or this machine has one.
 */
export async function tensorflowEngine({ device, threads }: TensorflowEngineInit = {}): Promise<Engine> {
  const gpus = await nvidiaGpus()
  const next = linkCommand(gpus.length > 0 || device === 'cuda')
  prepareEnvironment(device, threads)
  const { native, name } = load(next)
  const { isUsingGpuDevice, binding } = native.findBackend(BACKEND)
  const library = `TensorFlow ${binding.TF_Version}, ${name.split('/')[1]} ${native.version['tfjs-node']}`
  if (!isUsingGpuDevice && (device === 'cuda' || (device === undefined && gpus.length > 0))) {
    const gpu =
      gpus[0] === undefined ? 'and no NVIDIA driver answers' : `and does not use the ${gpus[0].name}`
    throw engineMissing(
      'tensorflow on cuda',
      `TensorFlow ${binding.TF_Version} runs on the CPU here ${gpu}`,
      next,
    )
  }
  if (isUsingGpuDevice && device === 'cpu')
    throw engineMissing('tensorflow on cpu', 'this process has loaded it on the GPU already')
  return eagerEngine('tensorflow', BACKEND, {
    library,
    ...(isUsingGpuDevice
      ? { device: 'cuda' }
      : { device: 'cpu', threads: threads ?? availableParallelism() }),
  })
}

/** Shell command that installs TensorFlow into a virtual environment and links the binding to it. */
function linkCommand(forGpu: boolean): string {
  const wheel = forGpu ? "'tensorflow[and-cuda]'" : 'tensorflow-cpu'
  const python = '~/tensorflow/bin/python'
  return `python3 -m venv ~/tensorflow && ${python} -m pip install ${wheel} && flexmesh doctor --link-tensorflow ${python}`
}

/** Sets the environment variables that the library reads when it is loaded. */
function prepareEnvironment(device: Device | undefined, threads: number | undefined): void {
  restoreUtilities()
  disableTf32()
  const { env } = process
  // Log warnings and errors only.
  env['TF_CPP_MIN_LOG_LEVEL'] ??= '1'
  // By default the library takes all memory of a GPU, which leaves none for a second node.
  env['TF_FORCE_GPU_ALLOW_GROWTH'] ??= 'true'
  if (device === 'cpu') env['CUDA_VISIBLE_DEVICES'] = '-1'
  if (threads !== undefined) {
    env['TF_NUM_INTRAOP_THREADS'] = String(threads)
    env['TF_NUM_INTEROP_THREADS'] = String(threads)
  }
}

/**
 * tfjs-node 4.22 calls `util.isNullOrUndefined`, which Node 23 removed, and `util.isArray`, for which Node 22 and later
 * print a warning. It looks them up on the shared `util` object at every call, so this defines them there. Fixed
 * upstream but never released: tensorflow/tfjs#8425.
 */
function restoreUtilities(): void {
  const removed = {
    isNullOrUndefined: (value: unknown) => value === null || value === undefined,
    isArray: Array.isArray,
  }
  for (const [name, value] of Object.entries(removed))
    Object.defineProperty(util, name, { value, configurable: true, writable: true })
}

function load(next: string): { native: NativeModule; name: string } {
  const require = createRequire(import.meta.url)
  let reason = ''
  for (const name of PACKAGES) {
    try {
      return { native: require(name) as NativeModule, name }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      const absent = code === 'MODULE_NOT_FOUND' && message.includes(`'${name}'`)
      // Report why the first package failed; the second is only a fallback.
      if (reason !== '') continue
      if (absent) {
        const install = 'npm install --no-save --ignore-scripts @tensorflow/tfjs-node-gpu@4.22.0'
        reason = '@tensorflow/tfjs-node-gpu is not installed'
        next = `${install} && ${next}`
      } else if (message.includes('native addon module')) {
        reason = `@tensorflow/tfjs-node-gpu has no native binding here`
      } else {
        reason = `its native binding does not load (${message.split('\n')[0]})`
      }
    }
  }
  throw engineMissing('tensorflow', reason, next)
}
