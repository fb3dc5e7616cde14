/**
 * A TensorFlow wheel as Python has it installed: where its libraries and headers are, and the CUDA
 * libraries that were installed beside it. Knows no compiler.
 */
import { execFile } from 'node:child_process'
import { access, readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'

/** The first whose wheels for NVIDIA GPUs are for CUDA 12. */
const OLDEST = [2, 15] as const
/** A Python that does not start in this time is not usable, ms. */
const PYTHON_TIMEOUT_MS = 30_000
/** Finds the folder without importing it, which would take seconds. */
const FIND =
  'import importlib.util as u; s = u.find_spec("tensorflow"); print(s.origin if s and s.origin else "")'

export const LIBRARY = 'libtensorflow_cc.so.2'
export const FRAMEWORK = 'libtensorflow_framework.so.2'
/** What TensorFlow opens by name at run time, from wheels of their own. */
const CUDA_LIBRARY =
  /^lib(cudart|cublas|cublasLt|cufft|cusolver|cusparse|cudnn|cupti|nccl|nvJitLink)\.so\.\d+$/

export interface Wheel {
  /** The `tensorflow` folder inside site-packages, absolute. */
  readonly folder: string
  readonly version: string
  /** CUDA libraries beside it, absolute; none for a CPU wheel. */
  readonly cuda: readonly string[]
}

/** What the user has to change; the message is the whole of it. */
export class LinkError extends Error {}

/** @throws LinkError when `python`, an interpreter or the `tensorflow` folder itself, has no usable wheel. */
export async function findWheel(python: string): Promise<Wheel> {
  const folder = (await isFolder(python)) ? await realpath(python) : await folderOf(python)
  if (/[^\w@%+=./~-]/.test(folder))
    throw new LinkError(
      `${folder}: a linker cannot take this path; install TensorFlow under one of letters, digits, - and _`,
    )
  const site = dirname(folder)
  const version = await versionIn(site, folder)
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    throw new LinkError(
      `TensorFlow ${version} in ${site} is older than ${OLDEST.join('.')}; run pip install --upgrade there`,
    )
  for (const file of [LIBRARY, FRAMEWORK, join('include', 'tensorflow', 'c', 'c_api.h')]) {
    if (!(await exists(join(folder, file))))
      throw new LinkError(
        `TensorFlow ${version} in ${site} lacks ${file}; install it again from a wheel for Linux`,
      )
  }
  return { folder, version, cuda: await cudaLibraries(site) }
}

async function folderOf(python: string): Promise<string> {
  let origin: string
  try {
    const { stdout } = await promisify(execFile)(python, ['-c', FIND], { timeout: PYTHON_TIMEOUT_MS })
    origin = stdout.trim()
  } catch (error) {
    const reason =
      error instanceof Error && 'code' in error && error.code === 'ENOENT' ? 'not found' : 'it does not run'
    throw new LinkError(
      `Python ${python}: ${reason}; name an interpreter that has TensorFlow with --python PATH`,
    )
  }
  if (origin === '')
    throw new LinkError(
      `${python} has no TensorFlow; run ${python} -m pip install tensorflow-cpu, or 'tensorflow[and-cuda]' for an NVIDIA GPU`,
    )
  return realpath(dirname(origin))
}

/** From the folder that pip leaves beside the package: `tensorflow_cpu-2.21.0.dist-info`. */
async function versionIn(site: string, folder: string): Promise<string> {
  for (const name of await readdir(site)) {
    const version = /^tensorflow(?:_cpu|_intel)?-(\d+\.\d+[\w.]*)\.dist-info$/.exec(name)?.[1]
    if (version !== undefined && basename(folder) === 'tensorflow') return version
  }
  throw new LinkError(`${folder}: not a TensorFlow that pip installed; name its Python with --python PATH`)
}

/** `nvidia/cublas/lib/libcublas.so.12` and the like. */
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
