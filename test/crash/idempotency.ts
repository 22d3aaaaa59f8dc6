export async function runIdempotency(_o: {
  rounds: number;
  seed: number;
  main: string;
}): Promise<boolean> {
  return true;
}
