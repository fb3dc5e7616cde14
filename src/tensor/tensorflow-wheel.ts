/**
 * Finds a TensorFlow wheel that pip installed: its libraries, its headers, and the CUDA libraries installed
 * beside it. Knows nothing about compilers or engines.
 */
import { execFile } from 'node:child_process'
import { access, readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { InputError } from '../lib/errors.ts'

/** The first version whose wheels for NVIDIA GPUs are built for CUDA 12. */
const OLDEST = [2, 15] as const
/** Maximum time for a Python to answer, ms. */
const PYTHON_TIMEOUT_MS = 30_000
/** Prints the folder without importing TensorFlow, which would take seconds. */
const FIND =
  'import importlib.util as u; s = u.find_spec("tensorflow"); print(s.origin if s and s.origin else "")'

export const LIBRARY = 'libtensorflow_cc.so.2'
export const FRAMEWORK = 'libtensorflow_framework.so.2'
/** Libraries that TensorFlow opens by name at run time; pip installs each from a wheel of its own. */
const CUDA_LIBRARY =
  /^lib(cudart|cublas|cublasLt|cufft|cusolver|cusparse|cudnn|cupti|nccl|nvJitLink)\.so\.\d+$/

export interface TensorflowWheel {
  /** The `tensorflow` folder inside site-packages, absolute. */
  readonly folder: string
  readonly version: string
  /** Absolute paths of the CUDA libraries installed beside it; empty for a CPU wheel. */
  readonly cuda: readonly string[]
}

/** A refusal to link; `reason` says what was found and what to do next. */
export function linkError(reason: string, cause?: unknown): InputError {
  return new InputError('engine-missing', `cannot link TensorFlow: ${reason}`, { reason }, cause)
}

/**
 * @param python An interpreter, or the `tensorflow` folder inside its site-packages.
 * @throws InputError `engine-missing` if `python` has no usable wheel.
 */
export async function findWheel(python: string, signal?: AbortSignal): Promise<TensorflowWheel> {
  const folder = (await isFolder(python)) ? await realpath(python) : await folderOf(python, signal)
  if (/[^\w@%+=./~-]/.test(folder))
    throw linkError(
      `${folder}: a linker cannot take this path; install TensorFlow under a path of letters, digits, - and _`,
    )
  const site = dirname(folder)
  const version = await versionIn(site, folder)
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    throw linkError(
      `TensorFlow ${version} in ${site} is older than ${OLDEST.join('.')}; run pip install --upgrade there`,
    )
  for (const file of [LIBRARY, FRAMEWORK, join('include', 'tensorflow', 'c', 'c_api.h')]) {
    if (!(await exists(join(folder, file))))
      throw linkError(
        `TensorFlow ${version} in ${site} lacks ${file}; install it again from a wheel for Linux`,
      )
  }
  return { folder, version, cuda: await cudaLibraries(site) }
}

async function folderOf(python: string, signal: AbortSignal | undefined): Promise<string> {
  const options = { timeout: PYTHON_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) }
  let origin: string
  try {
    const { stdout } = await promisify(execFile)(python, ['-c', FIND], options)
    origin = stdout.trim()
  } catch (error) {
    signal?.throwIfAborted()
    const reason =
      error instanceof Error && 'code' in error && error.code === 'ENOENT' ? 'not found' : 'it does not run'
    throw linkError(`Python ${python}: ${reason}; give the path of a Python that has TensorFlow`, error)
  }
  if (origin === '')
    throw linkError(
      `${python} has no TensorFlow; run ${python} -m pip install tensorflow-cpu, or 'tensorflow[and-cuda]' for an NVIDIA GPU`,
    )
  return realpath(dirname(origin))
}

/** Reads the version from the folder that pip leaves beside the package, as in `tensorflow_cpu-2.21.0.dist-info`. */
async function versionIn(site: string, folder: string): Promise<string> {
  for (const name of await readdir(site)) {
    const version = /^tensorflow(?:_cpu|_intel)?-(\d+\.\d+[\w.]*)\.dist-info$/.exec(name)?.[1]
    if (version !== undefined && basename(folder) === 'tensorflow') return version
  }
  throw linkError(`${folder}: not a TensorFlow that pip installed; give the path of its Python`)
}

/** Paths such as `nvidia/cublas/lib/libcublas.so.12`. */
async function cudaLibraries(site: string): Promise<string[]> {
  const root = join(site, 'nvidia')
  const found: string[] = []
  for (const part of await list(root)) {
    const lib = join(root, part, 'lib')
    for (const name of await list(lib)) if (CUDA_LIBRARY.test(name)) found.push(join(lib, name))
  }
  return found.sort()
}

async function list(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => [])
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
