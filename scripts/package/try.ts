/**
 * `npm run try-package`: packs the package, installs it in an empty folder as a stranger would, and runs the demo from
 * there. Prints sizes and seconds. Needs the npm registry.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** ONNX Runtime's CPU library is in its package; its install script would download the one for CUDA. */
const ENVIRONMENT = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' }
const MEBIBYTE = 2 ** 20

const folder = mkdtempSync(join(tmpdir(), 'flexmesh-package-'))
try {
  const tarball = join(
    folder,
    execFileSync('npm', ['pack', '--silent', '--pack-destination', folder]).toString().trim(),
  )
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  run('npm', ['install', '--no-audit', '--no-fund', tarball])
  const [kibibytes = ''] = execFileSync('du', ['-sk', join(folder, 'node_modules')])
    .toString()
    .split('\t')
  console.log(
    `package ${(statSync(tarball).size / MEBIBYTE).toFixed(1)} MiB, installed ${(Number(kibibytes) / 1024).toFixed(0)} MiB`,
  )
  run('npx', ['--no-install', 'flexmesh', '--version'])
  run('npx', ['--no-install', 'flexmesh', 'demo', '--once'])
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** @throws Error if the command fails. */
function run(command: string, argv: readonly string[]): void {
  const begin = performance.now()
  const { status } = spawnSync(command, argv, { cwd: folder, env: ENVIRONMENT, stdio: 'inherit' })
  const seconds = ((performance.now() - begin) / 1000).toFixed(1)
  if (status !== 0) throw new Error(`${command} ${argv.join(' ')} ended with ${status} after ${seconds} s`)
  console.log(`${command} ${argv[0]} ${argv[1] ?? ''}: ${seconds} s`)
}
