/** The withdrawal that the demo shows: one institution withdraws its expert, and the others answer with receipts. */
import { WITHDRAW } from '../commands/publish.ts'
import { WITHDRAWALS } from '../commands/withdrawals.ts'
import { call, type Institution, until } from './demo-process.ts'
import type { Output } from './output.ts'

/** What `flexmesh demo --json` says about the withdrawal. */
export interface DemoWithdrawal {
  readonly institution: string
  readonly expert: string
  /** Number of members that state that they have deleted the expert. */
  readonly dropped: number
  readonly members: number
}

/** Withdraw the expert of an institution, wait for the receipts of all others and print them. */
export async function withdrawWithReceipts(
  owner: Institution,
  output: Output,
  signal: AbortSignal,
): Promise<DemoWithdrawal> {
  const { name: institution, expert } = owner
  await call(owner, WITHDRAW, { name: expert }, signal)
  output.say(
    `${institution} withdraws its expert; every member stops using it and answers with a signed receipt`,
  )
  let result = await call(owner, WITHDRAWALS, {}, signal)
  await until('the receipts', signal, async () => {
    result = await call(owner, WITHDRAWALS, {}, signal)
    return result.withdrawals[0]?.members.every(({ state }) => state !== 'waiting') === true
  })
  for (const line of WITHDRAWALS.words(result, output.style)) output.say(`  ${line}`)
  const members = result.withdrawals[0]?.members ?? []
  const dropped = members.filter(({ state }) => state === 'dropped').length
  return { institution, expert, dropped, members: members.length }
}
