/**
 * `npx tsx scripts/conformance/node.ts`: serves the sample model on a free port, and prints the environment with which
 * the other scripts of this folder find it. Ctrl-C ends it and removes its home folder.
 */
import { once } from 'node:events'
import { serveNode } from '../bench/served-node.ts'

const node = await serveNode()
console.log(`export OPENAI_BASE_URL=${node.url} OPENAI_API_KEY=${node.key} FLEXMESH_HOME=${node.home}`)
await once(process, 'SIGINT')
await node.stop()
