"""The coordinator group: check a work list, drive it in a good order, give it to teams."""

from tools.coordination.assigning import bulk_assign_teams
from tools.coordination.checking import detect_conflicts, validate_projects
from tools.coordination.routing import optimize_route

ACTIONS = (optimize_route, validate_projects, detect_conflicts, bulk_assign_teams)
