import sys
from pathlib import Path

# Spawned workers take over sys.path: they find fleet_jobs here.
sys.path.insert(0, str(Path(__file__).parent))
