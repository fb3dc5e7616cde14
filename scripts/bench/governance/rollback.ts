/** Offers a node every history that is older, other or longer than the signed one, and counts what it takes in. */
import { loadTinyModel } from '../../../test/support/compositions.ts'
import { ATTACKS } from '../../../test/support/rollback/cases.ts'
import { newVictim } from '../../../test/support/rollback/victim.ts'

export async function measureRollback(): Promise<{ cases: number; wrongAccepts: number }> {
  const model = await loadTinyModel()
  let wrongAccepts = 0
  for (const { run } of ATTACKS) {
    const victim = await newVictim(model)
    if (await run(victim)) wrongAccepts++
    await victim.node.close()
  }
  return { cases: ATTACKS.length, wrongAccepts }
}
