/**
 * The row of judging: a second member's node fetches a whole expert from its founder and judges it. Both run on this
 * machine, and the member's blobs begin as links to those of the founder.
 */
import { join } from 'node:path'
import { joinHome } from '../node-process.ts'
import { publish, seconds, type Task } from './command-rows.ts'
import { linkBlobs, linkPublicModel, remove, requireDisk } from './home.ts'
import { expertBytes, publicBytes } from './model-plan.ts'
import { startMeasuredNode } from './node-server.ts'

/** Serving takes little memory in this format, so that the peak is that of judging. */
const NODE_OPTIONS = ['--weights', 'int4']
/** Maximum time until the member hears of the package. */
const FETCH_MS = 120_000
const FETCHING = /^fetching /
const VERDICT = /^(accepted|refused) /

/** Publishes expert 1 and lets a member judge it. The expert stays published if judging fails. */
export async function publishAndJudge(task: Task): Promise<void> {
  const { rows } = task
  const member = join(task.work, 'member')
  let hasJoined = false
  await rows.measure('judge', async () => {
    await requireDisk(task.work, publicBytes(task.plan.config) + 3 * expertBytes(task.plan.config, undefined))
    await linkBlobs(task.home, member)
    const founder = await startMeasuredNode(task.home, NODE_OPTIONS)
    try {
      await joinHome(task.home, member)
    } finally {
      await founder.stop()
    }
    await linkPublicModel(member)
    hasJoined = true
  })
  const published = await rows.measure('publish', async () => {
    await publish(task, 1)
    return true
  })
  if (hasJoined && published) await rows.measure('judge', () => judge(task, member))
  await remove(member)
}

async function judge({ rows, findings, home }: Task, memberHome: string): Promise<void> {
  const founder = await startMeasuredNode(home, NODE_OPTIONS)
  try {
    const member = await startMeasuredNode(memberHome, NODE_OPTIONS)
    try {
      await member.until(() => member.out.some((line) => FETCHING.test(line)), FETCH_MS)
      const before = { seconds: member.seconds, residentMB: member.residentMB }
      await member.until(() => member.out.some((line) => VERDICT.test(line)))
      const verdict = member.out.find((line) => VERDICT.test(line)) as string
      const took = member.seconds - before.seconds
      rows.say(`${verdict}: ${member.peakMB} MB, ${took.toFixed(1)} s with the transfer`)
      if (verdict.startsWith('refused')) throw new Error(verdict)
      findings.judgeMB = member.peakMB
      findings.judgeAddedMB = member.peakMB - before.residentMB
      findings.judgeSeconds = seconds(took)
    } finally {
      await member.stop()
    }
  } finally {
    await founder.stop()
  }
}
