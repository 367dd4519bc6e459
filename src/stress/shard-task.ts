/** One share of a shard as a task of a thread pool. */
import { runCampaign } from './campaign.ts';
import type { StressOptions } from './options.ts';

/** The report as JSON text. */
export default async function runShare(options: StressOptions): Promise<string> {
  return JSON.stringify(await runCampaign(options));
}
