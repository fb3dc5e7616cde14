/**
 * Builds the native binding of @tensorflow/tfjs-node-gpu against the TensorFlow wheel of a Python, which brings
 * the library and its headers. The library that the package would download itself is from 2022 and supports
 * neither CUDA 12 nor current GPUs. Linux only.
 *
 * Writes only inside the package's own folder (deps, build, lib, build-headers); `npm ci` undoes it. Knows nothing
 * about the command line.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, realpath, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, extname, join } from 'node:path'
import type { Device } from './engine.ts'
import { FRAMEWORK, findWheel, LIBRARY, linkError, type TensorflowWheel } from './tensorflow-wheel.ts'

const PACKAGE = '@tensorflow/tfjs-node-gpu'
/** The package looks for the binding of this version of Node's C interface on every Node that we support. */
const NODE_API = 8
/** Where node-gyp puts headers that it has to download. */
const HEADERS = 'build-headers'
/** Folders of the package that this file writes. */
const WRITTEN = ['deps', 'build', 'lib', HEADERS] as const
/** npm gives every command that it runs the path of its own copy of node-gyp. */
const PRINT_NODE_GYP = ['exec', '--offline', '-c', 'printf %s "$npm_config_node_gyp"'] as const

/** The engine that the new binding gives, measured once in a process of its own. */
export interface LinkedTensorflow {
  /** The package's folder, which holds the binding. */
  readonly folder: string
  readonly library: string
  readonly device: Device
  /** Float32 products, 10^9 operations a second. */
  readonly gflops: number
}

/**
 * Builds the binding, then loads it in a new process and multiplies matrices with it. A binding built before is
 * replaced.
 * @param python A Python that has TensorFlow (for an NVIDIA GPU: 'tensorflow[and-cuda]', else tensorflow-cpu), or
 * the `tensorflow` folder inside its site-packages.
 * @param say Receives one line for each step, and the compiler's output if the build fails.
 * @throws InputError `engine-missing` if something is absent or the build fails; the message says what to do.
 */
export async function linkTensorflow(
  python: string,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<LinkedTensorflow> {
  if (process.platform !== 'linux') throw linkError(`only Linux is supported, not ${process.platform}`)
  const folder = packageFolder()
  const wheel = await findWheel(python, signal)
  await requireTools(signal)
  const nodeGyp = await findNodeGyp(signal)
  say(`TensorFlow ${wheel.version} in ${wheel.folder}`)
  say(
    wheel.cuda.length === 0
      ? 'no CUDA libraries beside it: for the CPU'
      : `${wheel.cuda.length} CUDA libraries beside it`,
  )
  await placeDependencies(folder, wheel)
  say('building the binding')
  await build(folder, wheel, nodeGyp, say, signal)
  return { folder, ...(await tryBinding(signal)) }
}

function packageFolder(): string {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`))
  } catch (error) {
    throw linkError(
      `${PACKAGE} is not installed; run npm install --no-save --ignore-scripts ${PACKAGE}@4.22.0`,
      error,
    )
  }
}

async function requireTools(signal: AbortSignal): Promise<void> {
  for (const [tool, name] of [
    [process.env['CXX'] ?? 'c++', 'C++ compiler'],
    ['make', 'make'],
  ] as const) {
    const { code } = await run(tool, ['--version'], { signal })
    if (code !== 0)
      throw linkError(`no ${name} (${tool}) found; on Debian and Ubuntu run apt-get install g++ make`)
  }
}

/** The path of node-gyp's program. */
async function findNodeGyp(signal: AbortSignal): Promise<string> {
  const given = process.env['npm_config_node_gyp']
  if (given !== undefined) return given
  const { code, stdout } = await run('npm', PRINT_NODE_GYP, { signal })
  if (code !== 0 || stdout === '')
    throw linkError('npm, which brings node-gyp, does not run; install npm and put it on the PATH')
  return stdout
}

/** Gives the libraries the names that binding.gyp links by. At run time the loader finds them through the runpath. */
async function placeDependencies(root: string, wheel: TensorflowWheel): Promise<void> {
  for (const name of WRITTEN) await rm(join(root, name), { recursive: true, force: true })
  await mkdir(join(root, 'deps', 'lib'), { recursive: true })
  await symlink(join(wheel.folder, 'include'), join(root, 'deps', 'include'))
  await symlink(join(wheel.folder, LIBRARY), join(root, 'deps', 'lib', 'libtensorflow.so'))
  await symlink(join(wheel.folder, FRAMEWORK), join(root, 'deps', 'lib', 'libtensorflow_framework.so'))
}

async function build(
  root: string,
  wheel: TensorflowWheel,
  nodeGyp: string,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const headers = dirname(dirname(await realpath(process.execPath)))
  const haveHeaders = await access(join(headers, 'include', 'node', 'node_api.h')).then(
    () => true,
    () => false,
  )
  const args = [
    nodeGyp,
    'rebuild',
    // Headers that are not installed with this Node are downloaded into the package's folder.
    haveHeaders ? `--nodedir=${headers}` : `--devdir=${join(root, HEADERS)}`,
    '--module_name=tfjs_binding',
    `--module_path=${join(root, 'lib', `napi-v${NODE_API}`)}`,
    `--napi_build_version=${NODE_API}`,
  ]
  const env = { ...process.env, LDFLAGS: linkFlags(wheel) }
  const { code, output } = await run(process.execPath, args, { cwd: root, env, signal })
  if (code === 0) return
  say(output.trimEnd())
  throw linkError(
    haveHeaders
      ? "the build failed; the compiler's output is above"
      : `the build failed; Node ${process.version} is installed without headers: use a Node that has include/node beside bin`,
  )
}

/**
 * TensorFlow opens CUDA's libraries by bare name, and looks for them only where its own runpath points.
 * Linking the binding to them loads them first, from where pip installed them.
 */
function linkFlags({ folder, cuda }: TensorflowWheel): string {
  const folders = [folder, ...new Set(cuda.map((path) => dirname(path)))]
  const runpath = folders.map((path) => `-Wl,-rpath,${path}`)
  return [
    process.env['LDFLAGS'] ?? '',
    ...runpath,
    ...(cuda.length === 0 ? [] : ['-Wl,--no-as-needed']),
    ...cuda,
  ]
    .join(' ')
    .trim()
}

/** Loads the binding and multiplies, in a new process, because a library that crashes takes its process along. */
async function tryBinding(signal: AbortSignal): Promise<Omit<LinkedTensorflow, 'folder'>> {
  // The extension of this file: .ts under a loader of TypeScript, which execArgv names, else .js.
  const sibling = (name: string): string =>
    JSON.stringify(new URL(`${name}${extname(import.meta.url)}`, import.meta.url).href)
  const program = `
    const { tensorflowEngine } = await import(${sibling('tensorflow-engine')})
    const { measureGflops } = await import(${sibling('measure')})
    const engine = await tensorflowEngine()
    const { library, device } = engine
    console.log(JSON.stringify({ library, device, gflops: await measureGflops(engine) }))`
  const args = [...process.execArgv, '--input-type=module', '-e', program]
  const { code, stdout, output } = await run(process.execPath, args, { signal })
  if (code !== 0) throw linkError(`the binding was built but does not work: ${lastError(output)}`)
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Omit<LinkedTensorflow, 'folder'>
}

function lastError(output: string): string {
  return (
    output
      .split('\n')
      .findLast((line) => /Error/.test(line))
      ?.trim() ?? output.trim()
  )
}

interface Ended {
  readonly code: number
  readonly stdout: string
  /** Both streams, in the order in which they were written. */
  readonly output: string
}

interface RunOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly signal: AbortSignal
}

/**
 * Runs a command to its end. The code is -1 if it cannot be started or a signal ended it. An abort ends the
 * command together with the processes that it started, such as compilers.
 */
async function run(command: string, args: readonly string[], options: RunOptions): Promise<Ended> {
  const { signal, ...settings } = options
  signal.throwIfAborted()
  const child = spawn(command, args, { ...settings, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const kill = (): void => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid)
  }
  let stdout = ''
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  signal.addEventListener('abort', kill)
  const code = await once(child, 'close').then(
    ([status]: (number | null)[]) => status ?? -1,
    () => -1,
  )
  signal.removeEventListener('abort', kill)
  signal.throwIfAborted()
  return { code, stdout, output }
}
