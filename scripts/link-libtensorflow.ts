/**
 * Builds the native binding of @tensorflow/tfjs-node-gpu against the TensorFlow that a Python has, whose
 * wheel brings the library and its headers: `npm run link-libtensorflow -- --python PATH`. The library that
 * the package would fetch itself is from 2022 and knows neither CUDA 12 nor today's GPUs.
 *
 * Writes only inside the package's own folder (deps, build, lib, build-headers); `npm ci` undoes it. Linux only.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, realpath, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { FRAMEWORK, findWheel, LIBRARY, LinkError, type Wheel } from './libtensorflow/wheel.ts'

const PACKAGE = '@tensorflow/tfjs-node-gpu'
/** The package looks for the binding of this version of Node's C interface on every Node that we support. */
const NODE_API = 8
/** Where node-gyp puts headers that it had to fetch. */
const HEADERS = 'build-headers'
const USAGE = `usage: npm run link-libtensorflow -- [--python PATH]

PATH is a Python that has TensorFlow (default: FLEXMESH_TENSORFLOW_PYTHON, else python3), or its
"tensorflow" folder. For a GPU install 'tensorflow[and-cuda]' there, else tensorflow-cpu.`

async function main(): Promise<void> {
  const values = options()
  if (values.help === true) return console.log(USAGE)
  if (process.platform !== 'linux') throw new LinkError(`only Linux is supported, not ${process.platform}`)
  const root = packageFolder()
  const wheel = await findWheel(values.python ?? process.env['FLEXMESH_TENSORFLOW_PYTHON'] ?? 'python3')
  await requireTools()
  console.log(`TensorFlow ${wheel.version} in ${wheel.folder}`)
  console.log(
    wheel.cuda.length === 0
      ? 'no CUDA libraries beside it: for the CPU'
      : `${wheel.cuda.length} CUDA libraries beside it`,
  )
  await placeDependencies(root, wheel)
  await build(root, wheel)
  await tryOut(root)
}

function options(): { readonly python?: string | undefined; readonly help?: boolean | undefined } {
  try {
    return parseArgs({ options: { python: { type: 'string' }, help: { type: 'boolean' } } }).values
  } catch (error) {
    throw new LinkError(`${(error as Error).message}; --help shows what it takes`)
  }
}

function packageFolder(): string {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`))
  } catch {
    throw new LinkError(
      `${PACKAGE} is not installed; run npm install --no-save --ignore-scripts ${PACKAGE}@4.22.0`,
    )
  }
}

async function requireTools(): Promise<void> {
  for (const [tool, what] of [
    [process.env['CXX'] ?? 'c++', 'C++ compiler'],
    ['make', 'make'],
  ] as const) {
    const { code } = await run(tool, ['--version'])
    if (code !== 0)
      throw new LinkError(`no ${what} (${tool}) here; on Debian and Ubuntu run apt-get install g++ make`)
  }
}

/** The names that binding.gyp links by; the loader finds the libraries themselves through the runpath. */
async function placeDependencies(root: string, wheel: Wheel): Promise<void> {
  for (const made of ['deps', 'build', 'lib', HEADERS])
    await rm(join(root, made), { recursive: true, force: true })
  await mkdir(join(root, 'deps', 'lib'), { recursive: true })
  await symlink(join(wheel.folder, 'include'), join(root, 'deps', 'include'))
  await symlink(join(wheel.folder, LIBRARY), join(root, 'deps', 'lib', 'libtensorflow.so'))
  await symlink(join(wheel.folder, FRAMEWORK), join(root, 'deps', 'lib', 'libtensorflow_framework.so'))
}

async function build(root: string, wheel: Wheel): Promise<void> {
  // npm gives every script it runs its own copy of node-gyp.
  const nodeGyp = process.env['npm_config_node_gyp']
  if (nodeGyp === undefined)
    throw new LinkError('run it through npm, which brings node-gyp: npm run link-libtensorflow')
  const headers = dirname(dirname(await realpath(process.execPath)))
  const haveHeaders = await access(join(headers, 'include', 'node', 'node_api.h')).then(
    () => true,
    () => false,
  )
  const args = [
    nodeGyp,
    'rebuild',
    // Headers that are not installed with this Node are fetched, into the package's folder.
    haveHeaders ? `--nodedir=${headers}` : `--devdir=${join(root, HEADERS)}`,
    '--module_name=tfjs_binding',
    `--module_path=${join(root, 'lib', `napi-v${NODE_API}`)}`,
    `--napi_build_version=${NODE_API}`,
  ]
  console.log('building the binding')
  const { code, output } = await run(process.execPath, args, {
    cwd: root,
    env: { ...process.env, LDFLAGS: linkFlags(wheel) },
  })
  if (code === 0) return
  console.error(output.trimEnd())
  throw new LinkError(
    haveHeaders
      ? 'the build failed; what the compiler said is above'
      : `the build failed; Node ${process.version} here came without headers: use a Node that has include/node beside bin`,
  )
}

/**
 * TensorFlow opens CUDA's libraries by bare name, and looks for them only where its own runpath points.
 * Linking the binding to them loads them first, from where pip put them.
 */
function linkFlags({ folder, cuda }: Wheel): string {
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

/** In a process of its own: load the binding, multiply, and say what it runs on. */
async function tryOut(root: string): Promise<void> {
  const engine = new URL('../src/tensor/tensorflow-engine.ts', import.meta.url).href
  const code = `
    const { tensorflowEngine } = await import(${JSON.stringify(engine)})
    const { measureGflops } = await import(${JSON.stringify(new URL('../src/tensor/measure.ts', import.meta.url).href)})
    const engine = await tensorflowEngine()
    console.log(engine.library + ' on ' + engine.device + ': ' + Math.round(await measureGflops(engine)) + ' GFLOP/s')`
  const { code: status, output } = await run(process.execPath, [
    '--import',
    'tsx',
    '--input-type=module',
    '-e',
    code,
  ])
  if (status !== 0) throw new LinkError(`the binding was built but does not work: ${lastError(output)}`)
  console.log(output.trim().split('\n').at(-1))
  console.log(`linked inside ${root}; "npm ci" undoes it. Use it with --engine tensorflow.`)
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
  readonly output: string
}

/** The output of both streams; a command that cannot be started ends with -1. */
async function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text: Buffer) => {
      output += text.toString('utf8')
    })
  }
  try {
    const [code] = (await once(child, 'close')) as [number | null]
    return { code: code ?? -1, output }
  } catch {
    return { code: -1, output }
  }
}

main().catch((error: unknown) => {
  if (!(error instanceof LinkError)) throw error
  console.error(`link-libtensorflow: ${error.message}`)
  process.exitCode = 1
})
