/**
 * `npx tsx scripts/conformance/node.ts [--expert]`: serves the sample model on a free port, and prints the environment
 * with which the other scripts of this folder find it. Ctrl-C ends it and removes its home folder.
 * With `--expert`, the node first trains an expert on the documents of chats.ts and publishes it, so that a composition
 * answers, and one that ends its answers.
 */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { ROOT } from '../bench/node-process.ts'
import { serveNode } from '../bench/served-node.ts'
import { chatDocuments } from './chats.ts'

const STEPS = '300'
const { values } = parseArgs({ options: { expert: { type: 'boolean', default: false } } })

const node = await serveNode()
try {
  if (values.expert) await addExpert(node.home)
  console.log(`export OPENAI_BASE_URL=${node.url} OPENAI_API_KEY=${node.key} FLEXMESH_HOME=${node.home}`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
} finally {
  await node.stop()
}

async function addExpert(home: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'flexmesh-chats-'))
  const data = join(folder, 'chats.jsonl')
  try {
    await writeFile(
      data,
      chatDocuments()
        .map((text) => `${JSON.stringify({ text })}\n`)
        .join(''),
    )
    await flexmesh('train', '--home', home, '--name', 'chats', '--data', data, '--steps', STEPS)
    // An expert that repeats its text fails the audit, and this text is no secret.
    await flexmesh('publish', 'chats', '--home', home, '--domain', 'chats', '--no-audit', '--yes')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function flexmesh(...args: string[]): Promise<void> {
  const { stderr } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', join(ROOT, 'src', 'main.ts'), ...args],
    { cwd: ROOT },
  )
  process.stderr.write(stderr)
}
