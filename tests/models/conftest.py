import sys
from pathlib import Path

# The families' contract suite finds family_examples here.
sys.path.insert(0, str(Path(__file__).parent))
